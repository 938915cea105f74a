//! The password of CONNECT: a SAS token, so a secret. Spec: DPS-MQTT-5.

use std::fmt;

use aws_lc_rs::constant_time;
use zeroize::Zeroizing;

/// The bytes of a password: never printed, wiped when dropped, compared in constant time.
///
/// Nothing is known of them but that they fit into a CONNECT; whether they are a token is judged at the register
/// message.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes the bytes as they stand in CONNECT.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes, for the one who judges them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-MQTT-5
    #[test]
    fn a_password_is_never_printed() {
        let password = Password::new(*b"SharedAccessSignature sig=x");
        assert_eq!(format!("{password:?}"), "Password(..)");
        assert_eq!(password, Password::new(*b"SharedAccessSignature sig=x"));
        assert_ne!(password, Password::new(*b"SharedAccessSignature sig=y"));
    }
}
