//! The URL of a webhook, which often holds its password. Spec: DPS-REG-26.

use std::fmt;
use std::str::FromStr;

/// Longest URL of a webhook, in bytes; as much as is ever sent to (DPS-HUB-1).
pub const WEBHOOK_URL_BYTES_MAX: usize = 2_048;

/// What is shown in place of a query.
const MASKED_QUERY: &str = "?****";

/// A URL as its author wrote it. `Display` and `Debug` leave its query out. Whether a request may go there is asked when it is
/// called (DPS-HUB-2).
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Box<str>);

/// Why a text is no URL of a webhook. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadWebhookUrl {
    /// Longer than [`WEBHOOK_URL_BYTES_MAX`].
    #[error("is longer than {WEBHOOK_URL_BYTES_MAX} bytes")]
    TooLong,
    /// Another scheme, or none.
    #[error("does not begin with https://")]
    NotHttps,
    /// It holds white space or a control character.
    #[error("holds white space or a control character")]
    Character,
    /// Nothing stands where the host should.
    #[error("has no host")]
    NoHost,
    /// A user name or a password before the host.
    #[error("has a user name or a password before its host")]
    UserInfo,
}

impl WebhookUrl {
    /// The URL, its query included: to be called, stored sealed, and given back to whoever may read the entry.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Host and port as they are written, in lower case: calls are bounded by it. Spec: DPS-REG-33.
    pub fn host(&self) -> Box<str> {
        authority(&self.0).to_ascii_lowercase().into()
    }
}

impl FromStr for WebhookUrl {
    type Err = BadWebhookUrl;
    fn from_str(text: &str) -> Result<Self, BadWebhookUrl> {
        if text.len() > WEBHOOK_URL_BYTES_MAX {
            return Err(BadWebhookUrl::TooLong);
        }
        if !text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME)) {
            return Err(BadWebhookUrl::NotHttps);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(BadWebhookUrl::Character);
        }
        match authority(text) {
            "" => Err(BadWebhookUrl::NoHost),
            authority if authority.contains('@') => Err(BadWebhookUrl::UserInfo),
            _ => Ok(Self(text.into())),
        }
    }
}

const SCHEME: &str = "https://";

fn authority(url: &str) -> &str {
    let rest = &url[SCHEME.len()..];
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default()
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once('?') {
            Some((before, _)) => write!(f, "{before}{MASKED_QUERY}"),
            None => f.write_str(self.0.split('#').next().unwrap_or_default()),
        }
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-REG-26
    #[test]
    fn a_query_is_never_shown() {
        let url: WebhookUrl = "https://Hook.Example:8443/api?code=s3cret#x".parse().unwrap();
        assert_eq!(url.expose(), "https://Hook.Example:8443/api?code=s3cret#x");
        assert_eq!(url.to_string(), "https://Hook.Example:8443/api?****");
        assert_eq!(format!("{url:?}"), "WebhookUrl(https://Hook.Example:8443/api?****)");
        assert_eq!(&*url.host(), "hook.example:8443");
        let bare: WebhookUrl = "HTTPS://web.hook".parse().unwrap();
        assert_eq!((bare.to_string().as_str(), &*bare.host()), ("HTTPS://web.hook", "web.hook"));
    }

    /// DPS-REG-26
    #[test]
    fn what_nobody_could_call_is_refused_without_its_text() {
        let long = format!("https://a/{}", "x".repeat(WEBHOOK_URL_BYTES_MAX));
        for (text, why) in [
            ("", BadWebhookUrl::NotHttps),
            ("http://a", BadWebhookUrl::NotHttps),
            ("hook.example/api", BadWebhookUrl::NotHttps),
            ("https://", BadWebhookUrl::NoHost),
            ("https:///api", BadWebhookUrl::NoHost),
            ("https://?code=1", BadWebhookUrl::NoHost),
            ("https://user:secret@a/", BadWebhookUrl::UserInfo),
            ("https://a/ b", BadWebhookUrl::Character),
            ("https://a/\n", BadWebhookUrl::Character),
            (&long, BadWebhookUrl::TooLong),
        ] {
            assert_eq!(text.parse::<WebhookUrl>(), Err(why), "{text:.40}");
        }
        assert!("https://a/x@y?z@".parse::<WebhookUrl>().is_ok());
    }
}
