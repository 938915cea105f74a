//! Options whose value is a key: an error about one does not show it.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use dps_proto::key::SymmetricKey;

/// Reads a Base64 key. clap's own message would repeat the text, into a terminal or a CI log.
#[derive(Clone, Copy)]
pub(crate) struct KeyOption;

impl TypedValueParser for KeyOption {
    type Value = SymmetricKey;

    fn parse_ref(
        &self,
        command: &Command,
        option: Option<&Arg>,
        value: &OsStr,
    ) -> Result<SymmetricKey, Error> {
        let text = value.to_str().ok_or("the key is not Base64".to_owned());
        text.and_then(|text| text.parse().map_err(|why: dps_proto::key::BadKey| why.to_string())).map_err(
            |why| {
                let option = option.map(ToString::to_string).unwrap_or_default();
                Error::raw(ErrorKind::ValueValidation, format!("{option}: {why}\n")).with_cmd(command)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_key_names_the_option_and_not_the_key() {
        let option = Arg::new("key").long("key").value_name("KEY").value_parser(KeyOption);
        let refused = Command::new("x").arg(option).try_get_matches_from(["x", "--key", "almostasecret"]);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("--key <KEY>: the key") && !text.contains("almostasecret"), "{text}");
    }
}
