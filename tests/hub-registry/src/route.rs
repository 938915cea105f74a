//! From method, path and query to what is asked.

use dps_proto::ids::DeviceId;
use dps_proto::percent;
use hyper::{Method, Uri};

use crate::access::Right;
use crate::fault::Step;
use crate::refusal::Refusal;

/// What is asked, and of which device; a bulk request names devices in its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) step: Step,
    pub(crate) device_id: String,
}

impl Route {
    pub(crate) fn of(method: &Method, uri: &Uri) -> Result<Self, Refusal> {
        let unknown = || Refusal::unknown(&format!("{method} {}", uri.path()));
        let segments: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
        let (step, id) = match (method.as_str(), &*segments) {
            // The Python SDK has a slash at the end.
            ("POST", ["devices"] | ["devices", ""]) => (Step::Bulk, ""),
            ("GET", ["devices", id]) => (Step::ReadIdentity, *id),
            ("PUT", ["devices", id]) => (Step::WriteIdentity, *id),
            ("DELETE", ["devices", id]) => (Step::DeleteIdentity, *id),
            ("GET", ["twins", id]) => (Step::ReadTwin, *id),
            ("PUT", ["twins", id]) => (Step::ReplaceTwin, *id),
            ("PATCH", ["twins", id]) => (Step::MergeTwin, *id),
            _ => return Err(unknown()),
        };
        api_version(uri.query().unwrap_or_default())?;
        if step == Step::Bulk {
            return Ok(Self { step, device_id: String::new() });
        }
        let id = percent::decode(id).filter(|id| id.parse::<DeviceId>().is_ok());
        let device_id = id.ok_or_else(|| Refusal::argument_invalid("Invalid device id in the path."))?;
        Ok(Self { step, device_id })
    }

    pub(crate) fn right(&self) -> Right {
        match self.step {
            Step::ReadIdentity => Right::RegistryRead,
            Step::Connect | Step::Bulk | Step::WriteIdentity | Step::DeleteIdentity => Right::RegistryWrite,
            Step::ReadTwin | Step::ReplaceTwin | Step::MergeTwin => Right::ServiceConnect,
        }
    }
}

/// One `api-version`, a date, and nothing else.
fn api_version(query: &str) -> Result<(), Refusal> {
    let is_date = |text: &str| {
        let parts: Vec<_> =
            text.split('-').map(|part| (part.len(), part.bytes().all(|b| b.is_ascii_digit()))).collect();
        parts == [(4, true), (2, true), (2, true)]
    };
    match query.split_once('=') {
        Some(("api-version", date)) if is_date(date) => Ok(()),
        _ => Err(Refusal::protocol_version(format!("The query '{query}' is not one api-version."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: Method, uri: &str) -> Result<Route, String> {
        Route::of(&method, &uri.parse().unwrap()).map_err(|refusal| refusal.name)
    }

    #[test]
    fn what_is_not_listed_is_refused_by_name() {
        let known = |step, id: &str| Ok(Route { step, device_id: id.to_owned() });
        assert_eq!(
            route(Method::GET, "/devices/a%2Fb?api-version=2021-04-12"),
            Err("ArgumentInvalid".to_owned())
        );
        assert_eq!(
            route(Method::GET, "/devices/a%23b?api-version=2021-04-12"),
            known(Step::ReadIdentity, "a#b")
        );
        assert_eq!(route(Method::POST, "/devices/?api-version=2021-04-12"), known(Step::Bulk, ""));
        assert_eq!(route(Method::PATCH, "/twins/a?api-version=2024-03-31"), known(Step::MergeTwin, "a"));
        for (method, uri) in [
            (Method::GET, "/devices?api-version=2021-04-12"),
            (Method::GET, "/devices/a/modules?api-version=2021-04-12"),
            (Method::POST, "/twins/a?api-version=2021-04-12"),
            (Method::GET, "/statistics/devices?api-version=2021-04-12"),
            (Method::GET, "/"),
        ] {
            assert_eq!(route(method, uri), Err("GenericNotFound".to_owned()), "{uri}");
        }
        for query in [
            "",
            "?api-version=",
            "?api-version=2021",
            "?api-version=2021-04-12&top=1",
            "?Api-Version=2021-04-12",
        ] {
            let refused = route(Method::GET, &format!("/devices/a{query}"));
            assert_eq!(refused, Err("InvalidProtocolVersion".to_owned()), "{query}");
        }
    }
}
