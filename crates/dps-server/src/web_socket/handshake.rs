//! From a request to a WebSocket (RFC 6455 section 4.2). Spec: DPS-WS-1 to DPS-WS-3.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::https::fault::HttpFault;

/// The subprotocol that is spoken.
const MQTT: &str = "mqtt";

/// Longest list of subprotocols that is repeated, in characters.
const SHOWN_CHARACTERS_MAX: usize = 128;

/// Whether a request is for a WebSocket, whatever its path. Spec: DPS-WS-1.
pub(crate) fn is_wanted(head: &Parts) -> bool {
    head.headers.contains_key(SEC_WEBSOCKET_PROTOCOL) || has_word(&head.headers, UPGRADE, "websocket")
}

/// The answer that makes it one. Spec: DPS-WS-2, DPS-WS-3.
pub(crate) fn accept(head: &Parts) -> Result<Response<Full<Bytes>>, HttpFault> {
    let headers = &head.headers;
    if head.method != Method::GET || head.version != Version::HTTP_11 {
        return Err(HttpFault::Upgrade("is no GET of HTTP/1.1"));
    }
    if !has_word(headers, UPGRADE, "websocket") {
        return Err(HttpFault::Upgrade("lacks Upgrade: websocket"));
    }
    if !has_word(headers, CONNECTION, "upgrade") {
        return Err(HttpFault::Upgrade("lacks Connection: Upgrade"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(HttpFault::Upgrade("is not of version 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if !STANDARD.decode(key).is_ok_and(|key| key.len() == 16) {
        return Err(HttpFault::Upgrade("has no Sec-WebSocket-Key of 16 bytes"));
    }
    // As the client spelled it: some compare.
    let offered = words(headers, SEC_WEBSOCKET_PROTOCOL).find(|word| word.eq_ignore_ascii_case(MQTT));
    let Some(protocol) = offered.and_then(|word| HeaderValue::from_str(word).ok()) else {
        let offered = words(headers, SEC_WEBSOCKET_PROTOCOL).collect::<Vec<_>>().join(", ");
        return Err(HttpFault::Subprotocol(offered.chars().take(SHOWN_CHARACTERS_MAX).collect()));
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key))
        .map_err(|_| HttpFault::Upgrade("has no Sec-WebSocket-Key of 16 bytes"))?;
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    Ok(response)
}

fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    words(headers, name).any(|found| found.eq_ignore_ascii_case(word))
}

/// The words of a list in one header line or several.
fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn request(more: &[(&str, &str)]) -> Parts {
        let plain = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut request = Request::builder().uri("/anywhere");
        for (name, value) in plain.iter().filter(|(name, _)| !more.iter().any(|(other, _)| name == other)) {
            request = request.header(*name, *value);
        }
        for (name, value) in more.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// DPS-WS-1, DPS-WS-2: the digest is that of RFC 6455 section 1.3.
    #[test]
    fn mqtt_is_accepted_in_any_case_and_echoed_as_it_was_spelled() {
        let rows = [("mqtt", "mqtt"), ("MQTT", "MQTT"), ("AMQPWSB10, Mqtt", "Mqtt")];
        for (offered, echoed) in rows {
            let head = request(&[("sec-websocket-protocol", offered), ("connection", "keep-alive, Upgrade")]);
            assert!(is_wanted(&head));
            let response = accept(&head).unwrap();
            assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
            assert_eq!(response.headers()["sec-websocket-protocol"], echoed);
            assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            assert_eq!(response.headers()["connection"], "Upgrade");
            assert!(!response.headers().contains_key("sec-websocket-extensions"));
        }
    }

    /// DPS-WS-3
    #[test]
    fn what_is_no_websocket_for_mqtt_is_told_why() {
        let offer = ("sec-websocket-protocol", "mqtt");
        let rows: [(&[(&str, &str)], HttpFault); 8] = [
            (&[], HttpFault::Subprotocol(String::new())),
            (&[("sec-websocket-protocol", "AMQPWSB10")], HttpFault::Subprotocol("AMQPWSB10".into())),
            (&[offer, ("upgrade", "")], HttpFault::Upgrade("lacks Upgrade: websocket")),
            (&[offer, ("connection", "close")], HttpFault::Upgrade("lacks Connection: Upgrade")),
            (&[offer, ("sec-websocket-version", "8")], HttpFault::Upgrade("is not of version 13")),
            (&[offer, ("sec-websocket-key", "")], HttpFault::Upgrade("has no Sec-WebSocket-Key of 16 bytes")),
            (
                &[offer, ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=?")],
                HttpFault::Upgrade("has no Sec-WebSocket-Key of 16 bytes"),
            ),
            (
                &[offer, ("sec-websocket-key", "AAAA")],
                HttpFault::Upgrade("has no Sec-WebSocket-Key of 16 bytes"),
            ),
        ];
        for (more, fault) in rows {
            assert_eq!(accept(&request(more)).unwrap_err(), fault);
        }
        let plain = Request::builder().uri("/a").body(()).unwrap().into_parts().0;
        assert!(!is_wanted(&plain));
    }
}
