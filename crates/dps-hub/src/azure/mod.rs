//! An Azure IoT Hub as the service that provisions its devices sees it: identities and twins, by its registry's REST API.
//! Spec: DPS-HUB-10 to DPS-HUB-18 (docs/spec/hubs.md).
//!
//! One call is one request; what is retried, and when, is for the caller to decide. Whoever changes what exists names the version
//! that was read.

mod bulk_result;
mod condition;
mod etag;
mod identity;
mod refusal;
mod registry_hub;
mod token;
mod twin;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use dps_core::assignment::{CALL_MAX, STRAYS_FOR};
use dps_core::ports::HubAuthentication;
use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::ids::DeviceId;
use dps_proto::percent;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use etag::{BadHubETag, HubETag};
pub use identity::{Identity, NewIdentity};
pub use refusal::{HubError, HubRefusal, REFUSAL_BODY_BYTES_MAX, RETRY_AFTER_MAX};
pub use registry_hub::RegistryHub;
pub use token::{TOKEN_LIFETIME, TOKEN_RENEWAL};
pub use twin::{MalformedTwin, Twin, TwinContent};

use crate::outbound::{
    Answer, BadUrl, HeaderMap, HeaderValue, HttpsUrl, Method, Outbound, Request, StatusCode,
};
use token::TokenCache;

/// The api-version that requests name: that of the official SDKs. Spec: DPS-HUB-10.
pub const API_VERSION: &str = "2021-04-12";

/// Deadline of one call. Spec: DPS-HUB-10.
pub const CALL_WITHIN: Duration = Duration::from_secs(10);

/// A claim has time for each call that begins under it, and what is given up is dead when it is looked at for the last time.
/// Spec: DPS-REG-40, DPS-REG-44.
const _: () = {
    const CLOCKS_DIFFER_SECONDS: i64 = 5 * 60;
    assert!(CALL_WITHIN.as_millis() <= CALL_MAX.as_millis());
    assert!(TOKEN_LIFETIME.as_secs() + CLOCKS_DIFFER_SECONDS <= STRAYS_FOR.as_secs());
};

/// Most bytes of an answer. A twin has at most 72 KB, and says of each property when it changed. Spec: DPS-HUB-10.
pub const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Speaks to one hub for one shared access policy.
pub struct AzureHub {
    connection_string: ServiceConnectionString,
    token: TokenCache,
    outbound: Outbound,
    within: Duration,
}

impl AzureHub {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// Where the host of the connection string is none that can be connected to.
    pub fn new(connection_string: ServiceConnectionString, outbound: Outbound) -> Result<Self, BadUrl> {
        HttpsUrl::of(connection_string.authority(), "/")?;
        Ok(Self { connection_string, token: TokenCache::default(), outbound, within: CALL_WITHIN })
    }

    /// The same client with another deadline for each call.
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Whether it speaks by this connection string.
    pub fn speaks_by(&self, connection_string: &ServiceConnectionString) -> bool {
        self.connection_string == *connection_string
    }

    /// The hub's host as the connection string spells it, without its port.
    pub fn host(&self) -> &str {
        self.connection_string.host()
    }

    /// Makes a device and its twin in one call, which does both or neither. Spec: DPS-HUB-12.
    ///
    /// # Errors
    /// [`HubError::Exists`] where there is one of that id.
    pub async fn create(&self, identity: NewIdentity<'_>) -> Result<(), HubError> {
        path("devices", identity.device_id)?;
        let answer = self.ask(Method::POST, "/devices", None, Some(identity.json())).await?;
        // The hub says 200 or 400, and what it means in the body.
        match answer.status {
            StatusCode::OK | StatusCode::BAD_REQUEST => bulk_result::judge(&answer),
            _ => Err(HubError::refusal(&answer)),
        }
    }

    /// Reads a device. Spec: DPS-HUB-13.
    ///
    /// # Errors
    /// [`HubError::Absent`] where there is none.
    pub async fn identity(&self, device_id: &DeviceId) -> Result<Identity, HubError> {
        let answer = self.ask(Method::GET, &path("devices", device_id)?, None, None).await?;
        Identity::read(device_id, json(&answer)?)
    }

    /// Gives a device, as it was read, other keys or thumbprints, and leaves the rest of it. Spec: DPS-HUB-14.
    ///
    /// # Errors
    /// [`HubError::PreconditionFailed`] where it has changed since.
    pub async fn set_authentication(
        &self,
        identity: &Identity,
        authentication: &HubAuthentication,
    ) -> Result<Identity, HubError> {
        let device_id = identity.device_id();
        let body = identity.json_with(authentication);
        let answer =
            self.ask(Method::PUT, &path("devices", device_id)?, Some(identity.etag()), Some(body)).await?;
        Identity::read(device_id, json(&answer)?)
    }

    /// Deletes a device, and its twin with it. Spec: DPS-HUB-14.
    ///
    /// # Errors
    /// [`HubError::PreconditionFailed`] where it has changed since it had `etag`, [`HubError::Absent`] where there is none.
    pub async fn delete(&self, device_id: &DeviceId, etag: &HubETag) -> Result<(), HubError> {
        let answer = self.ask(Method::DELETE, &path("devices", device_id)?, Some(etag), None).await?;
        succeeded(&answer, StatusCode::NO_CONTENT)
    }

    /// Reads the twin of a device. Spec: DPS-HUB-15.
    ///
    /// # Errors
    /// [`HubError::Absent`] where there is no such device.
    pub async fn twin(&self, device_id: &DeviceId) -> Result<Twin, HubError> {
        let answer = self.ask(Method::GET, &path("twins", device_id)?, None, None).await?;
        Twin::read(device_id, json(&answer)?)
    }

    /// Puts tags and desired properties in place of those that a twin had when it had `etag`; what the device reported stays.
    /// Spec: DPS-HUB-15.
    ///
    /// # Errors
    /// [`HubError::PreconditionFailed`] where it has changed since.
    pub async fn replace_twin(
        &self,
        device_id: &DeviceId,
        etag: &HubETag,
        content: &TwinContent,
    ) -> Result<Twin, HubError> {
        self.write_twin(Method::PUT, device_id, etag, content.whole()).await
    }

    /// Merges tags and desired properties into those that a twin had when it had `etag`. Spec: DPS-HUB-15.
    ///
    /// # Errors
    /// As [`AzureHub::replace_twin`].
    pub async fn merge_twin(
        &self,
        device_id: &DeviceId,
        etag: &HubETag,
        content: &TwinContent,
    ) -> Result<Twin, HubError> {
        self.write_twin(Method::PATCH, device_id, etag, content.given()).await
    }

    async fn write_twin(
        &self,
        method: Method,
        device_id: &DeviceId,
        etag: &HubETag,
        body: Value,
    ) -> Result<Twin, HubError> {
        let answer = self.ask(method, &path("twins", device_id)?, Some(etag), Some(body)).await?;
        Twin::read(device_id, json(&answer)?)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        if_match: Option<&HubETag>,
        body: Option<Value>,
    ) -> Result<Answer, HubError> {
        let target = format!("{path}?api-version={API_VERSION}");
        let url = HttpsUrl::of(self.connection_string.authority(), &target).map_err(HubError::Url)?;
        let mut headers = HeaderMap::new();
        headers.insert("authorization", self.token.header(&self.connection_string, Timestamp::now())?);
        if let Some(etag) = if_match {
            headers.insert("if-match", etag.header()?);
        }
        if body.is_some() {
            headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let (within, answer_bytes_max) = (self.within, ANSWER_BYTES_MAX);
        let request = Request { method, url: &url, headers, body, within, answer_bytes_max };
        let answer = self.outbound.exchange(request).await.map_err(HubError::NoAnswer)?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // It may have been signed by a clock that has been set right since.
            self.token.forget();
        }
        Ok(answer)
    }
}

impl fmt::Debug for AzureHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureHub").field("connection_string", &self.connection_string).finish_non_exhaustive()
    }
}

/// Ids of devices hold characters that mean something in a path. Spec: DPS-HUB-11.
fn path(collection: &str, device_id: &DeviceId) -> Result<String, HubError> {
    match device_id.as_str() {
        // Whoever reads a URL takes these for steps in the path, encoded or not.
        "." | ".." => Err(HubError::Unaddressable),
        id => Ok(format!("/{collection}/{}", percent::encode(id))),
    }
}

/// A success of another kind is none: whatever stands between may answer with a page.
fn succeeded(answer: &Answer, status: StatusCode) -> Result<(), HubError> {
    if answer.status == status {
        Ok(())
    } else if answer.status.is_success() {
        Err(HubError::Malformed(format!(
            "its status is {}, where {} belongs",
            answer.status.as_u16(),
            status.as_u16()
        )))
    } else {
        Err(HubError::refusal(answer))
    }
}

fn json<T: DeserializeOwned>(answer: &Answer) -> Result<T, HubError> {
    succeeded(answer, StatusCode::OK)?;
    // What is wrong with it is told by place: the text may hold keys.
    serde_json::from_slice(&answer.body).map_err(|why| {
        let place = format!("line {} column {}", why.line(), why.column());
        HubError::Malformed(format!("it is not the JSON that was asked for, at {place}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::{AllowedTargets, Trust, TrustedRoots};
    use crate::scripted_peer::{ScriptedPeer, answer};

    /// DPS-HUB-10
    #[tokio::test]
    async fn a_token_that_was_refused_is_not_used_again() {
        let peer = ScriptedPeer::start(|number| answer([404, 401][number], "")).await;
        let roots = TrustedRoots::read(&Trust::Only(peer.ca_file())).unwrap();
        let outbound = Outbound::new(AllowedTargets::parse(["localhost"]).unwrap(), roots).unwrap();
        let host = format!("localhost:{}", peer.address.port());
        let key = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTIzNDU2Nzg=";
        let text = format!("HostName={host};SharedAccessKeyName=owner;SharedAccessKey={key}");
        let hub = AzureHub::new(text.parse().unwrap(), outbound).unwrap();
        for is_kept in [true, false] {
            hub.identity(&"d".parse().unwrap()).await.unwrap_err();
            assert_eq!(hub.token.is_kept(), is_kept);
        }
    }
}
