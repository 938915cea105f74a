//! The token that requests carry. Spec: DPS-HUB-10.

use std::sync::{Mutex, PoisonError};

use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::sas::sign_service_token;
use jiff::{SignedDuration, Timestamp};

use super::refusal::HubError;
use crate::outbound::HeaderValue;

/// How long a token is valid. Spec: DPS-HUB-10.
pub const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// How long before its end it is no longer used: clocks differ, and requests take their time. Spec: DPS-HUB-10.
pub const TOKEN_RENEWAL: SignedDuration = SignedDuration::from_mins(10);

/// The token in use. Spec: DPS-HUB-10.
#[derive(Default)]
pub(super) struct TokenCache(Mutex<Option<Token>>);

struct Token {
    header: HeaderValue,
    signed_at: Timestamp,
}

impl TokenCache {
    /// What `authorization` says at `now`.
    pub(super) fn header(
        &self,
        given: &ServiceConnectionString,
        now: Timestamp,
    ) -> Result<HeaderValue, HubError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let use_within = TOKEN_LIFETIME - TOKEN_RENEWAL;
        // A clock that was set back makes it a token from the future, which may end too late for the hub.
        if let Some(token) = &*kept
            && (SignedDuration::ZERO..use_within).contains(&now.duration_since(token.signed_at))
        {
            return Ok(token.header.clone());
        }
        let expiry = now.saturating_add(TOKEN_LIFETIME).unwrap_or(Timestamp::MAX);
        let text = sign_service_token(given.authority(), given.policy(), given.key(), expiry);
        // Percent-encoded text always is one.
        let mut header = HeaderValue::try_from(text).map_err(|_| HubError::Unaddressable)?;
        header.set_sensitive(true);
        *kept = Some(Token { header: header.clone(), signed_at: now });
        Ok(header)
    }

    /// The next request signs anew.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    #[cfg(test)]
    pub(super) fn is_kept(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }
}

#[cfg(test)]
mod tests {
    use dps_proto::sas::SasToken;

    use super::*;

    const KEY: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTIzNDU2Nzg=";

    /// DPS-HUB-10, DPS-HUB-18
    #[test]
    fn a_token_is_kept_until_shortly_before_its_end() {
        let text = format!("HostName=hub.example:8443;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}");
        let given: ServiceConnectionString = text.parse().unwrap();
        let cache = TokenCache::default();
        let signed_at = Timestamp::from_second(1_800_000_000).unwrap();
        let at = |minutes| cache.header(&given, signed_at + SignedDuration::from_mins(minutes)).unwrap();
        let first = at(0);
        let token = SasToken::parse(first.as_bytes()).unwrap();
        assert!(token.is_signed_by(given.key()) && first.is_sensitive());
        assert_eq!((token.resource(), token.policy()), ("hub.example%3A8443", Some("iothubowner")));
        assert_eq!(token.expiry(), signed_at + TOKEN_LIFETIME);
        assert_eq!(at(49), first);
        let second = at(50);
        assert_ne!(second, first);
        assert_eq!(at(60), second);
        assert_ne!(at(40), second, "the clock was set back");
        let before = at(45);
        cache.forget();
        assert_ne!(at(46), before);
        assert_eq!(format!("{first:?}"), "Sensitive");
    }
}
