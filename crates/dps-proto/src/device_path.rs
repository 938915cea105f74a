//! Paths of the HTTPS device API. Spec: DPS-HTTPS-1 (docs/spec/https.md).

use std::fmt;

use crate::ids::{BadId, IdScope, RegistrationId};
use crate::percent;

/// What a device asks for by a path, whatever the method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePath {
    /// The service instance.
    pub id_scope: IdScope,
    /// The device.
    pub registration_id: RegistrationId,
    /// Which of its resources.
    pub resource: DeviceResource,
}

/// What a device has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceResource {
    /// Its record.
    Registration,
    /// Its registering.
    Register,
    /// One of its operations; what stands there need not be an operation id.
    Operation(Box<str>),
}

/// Why a path of a device leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDevicePath {
    /// The first segment is no ID scope.
    #[error("the ID scope of the path: {0}")]
    IdScope(#[source] BadId),
    /// The third segment is no registration id.
    #[error("the registration id of the path: {0}")]
    RegistrationId(#[source] BadId),
    /// A segment is not percent-encoded UTF-8.
    #[error("a segment of the path is not percent-encoded text")]
    Encoding,
}

impl DevicePath {
    /// Reads `/{idScope}/registrations/{registrationId}`, alone or with `/register` or `/operations/{operationId}` behind it.
    /// Words are compared ignoring case, ids are decoded once. `None` where it has another shape, or begins with a word of the
    /// service API, which no ID scope is.
    pub fn parse(path: &str) -> Option<Result<Self, BadDevicePath>> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let scope = segments.next().filter(|scope| !IdScope::is_reserved(scope))?;
        segments.next().filter(|word| word.eq_ignore_ascii_case("registrations"))?;
        let id = segments.next()?;
        let resource = match (segments.next(), segments.next(), segments.next()) {
            (None, None, None) => DeviceResource::Registration,
            (Some(word), None, None) if word.eq_ignore_ascii_case("register") => DeviceResource::Register,
            (Some(word), Some(operation), None) if word.eq_ignore_ascii_case("operations") => {
                DeviceResource::Operation(operation.into())
            }
            _ => return None,
        };
        Some(Self::of(scope, id, resource))
    }

    fn of(scope: &str, id: &str, resource: DeviceResource) -> Result<Self, BadDevicePath> {
        let decoded = |text: &str| percent::decode(text).ok_or(BadDevicePath::Encoding);
        let resource = match resource {
            DeviceResource::Operation(operation) => DeviceResource::Operation(decoded(&operation)?.into()),
            other => other,
        };
        Ok(Self {
            id_scope: decoded(scope)?.parse().map_err(BadDevicePath::IdScope)?,
            registration_id: decoded(id)?.parse().map_err(BadDevicePath::RegistrationId)?,
            resource,
        })
    }
}

/// As a client asks for it.
impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = percent::encode(self.registration_id.as_str());
        write!(f, "/{}/registrations/{id}", self.id_scope)?;
        match &self.resource {
            DeviceResource::Registration => Ok(()),
            DeviceResource::Register => f.write_str("/register"),
            DeviceResource::Operation(operation) => write!(f, "/operations/{}", percent::encode(operation)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-HTTPS-1
    #[test]
    fn the_paths_of_real_clients_are_read_and_written() {
        let rows = [
            ("/0ne00000000/registrations/dev-1/register", "dev-1", DeviceResource::Register),
            ("/0ne00000000/registrations/a:b/register", "a:b", DeviceResource::Register),
            ("/0ne00000000/registrations/a%3Ab/register", "a:b", DeviceResource::Register),
            ("/0ne00000000/Registrations/a%3ab/REGISTER", "a:b", DeviceResource::Register),
            ("/0ne00000000/registrations/Dev-1", "Dev-1", DeviceResource::Registration),
            ("/0ne00000000/registrations/d/operations/5.a.b", "d", DeviceResource::Operation("5.a.b".into())),
            ("/0ne00000000/registrations/d/operations/", "d", DeviceResource::Operation("".into())),
        ];
        for (path, id, resource) in rows {
            let read = DevicePath::parse(path).unwrap().unwrap();
            assert_eq!((read.registration_id.as_str(), &read.resource), (id, &resource), "{path}");
            assert_eq!(DevicePath::parse(&read.to_string()).unwrap().unwrap(), read, "{path}");
        }
    }

    /// DPS-HTTPS-1: ids are decoded once.
    #[test]
    fn a_path_that_names_no_device_is_told_from_one_that_names_none_well() {
        for path in
            ["/", "/0ne00000000", "/0ne00000000/registrations", "/0ne00000000/registrations/d/else", ""]
        {
            assert_eq!(DevicePath::parse(path), None, "{path}");
        }
        for path in [
            "/enrollments/registrations/d",
            "/registrations/registrations/query",
            "/EnrollmentGroups/registrations/d",
        ] {
            assert_eq!(DevicePath::parse(path), None, "{path}");
        }
        assert_eq!(DevicePath::parse("/0ne00000000/registrations/d/operations/a/b"), None);
        let bad = |path| DevicePath::parse(path).unwrap().unwrap_err();
        assert_eq!(bad("/0ne00000000/registrations/%zz"), BadDevicePath::Encoding);
        assert!(matches!(bad("/0ne00000000/registrations/"), BadDevicePath::RegistrationId(_)));
        assert!(matches!(bad("/0ne00000000/registrations/a%253Ab"), BadDevicePath::RegistrationId(_)));
        assert!(matches!(bad("/0/registrations/d"), BadDevicePath::IdScope(_)));
    }
}
