//! What a hub makes of a bulk request. Spec: DPS-HUB-12.

use serde::Deserialize;

use super::refusal::{HubError, HubRefusal, code_of};
use crate::outbound::{Answer, StatusCode};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkResult {
    is_successful: bool,
    errors: Option<Vec<BulkFailure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkFailure {
    error_code: ErrorCode,
}

/// Hubs write a number or a name.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorCode {
    Number(u32),
    Name(String),
}

/// Judges the answer, of status 200 or 400 alike, to a request of one device.
pub(super) fn judge(answer: &Answer) -> Result<(), HubError> {
    let Ok(BulkResult { is_successful, errors }) = serde_json::from_slice(&answer.body) else {
        // Of a request that it does not take as a whole, a hub speaks as it does of others.
        return Err(match answer.status {
            StatusCode::BAD_REQUEST => HubError::refusal(answer),
            _ => HubError::Malformed("it is not the result of a bulk request".to_owned()),
        });
    };
    match (is_successful, errors.unwrap_or_default().into_iter().next()) {
        (true, None) if answer.status == StatusCode::OK => Ok(()),
        (false, Some(failure)) => Err(HubError::of(HubRefusal::read(answer, failure.code()))),
        _ => Err(HubError::Malformed("isSuccessful, errors and the status contradict each other".to_owned())),
    }
}

impl BulkFailure {
    fn code(&self) -> Option<u32> {
        match &self.error_code {
            ErrorCode::Number(code) => Some(*code),
            ErrorCode::Name(name) => code_of(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::HeaderMap;

    fn judged(status: u16, body: &str) -> Result<(), HubError> {
        let status = StatusCode::from_u16(status).unwrap();
        judge(&Answer { status, headers: HeaderMap::new(), body: body.to_owned().into() })
    }

    /// DPS-HUB-12, DPS-HUB-16
    #[test]
    fn the_body_says_what_became_of_it_whatever_the_status() {
        for errors in ["[]", "null"] {
            judged(200, &format!(r#"{{"isSuccessful":true,"errors":{errors},"warnings":[]}}"#)).unwrap();
        }
        for status in [200, 400] {
            for code in ["409001", "\"DeviceAlreadyExists\"", "\"409001\""] {
                let body = format!(
                    r#"{{"isSuccessful":false,"errors":[{{"deviceId":"d","moduleId":null,"errorCode":{code},"errorStatus":"there is one"}}]}}"#
                );
                let why = judged(status, &body).unwrap_err();
                assert!(matches!(&why, HubError::Exists(refusal) if refusal.body() == body), "{why:?}");
            }
        }
        let of = |code: u32| {
            judged(400, &format!(r#"{{"isSuccessful":false,"errors":[{{"errorCode":{code}}}]}}"#))
                .unwrap_err()
        };
        assert!(matches!(of(413_002), HubError::TooManyDevices(_)));
        assert!(matches!(of(429_001), HubError::Throttled(_)));
        assert!(matches!(of(500_001), HubError::Unavailable(_)));
        assert!(matches!(of(400_004), HubError::Rejected(_)));
        // A name that is not known says no more than the status.
        let unknown =
            judged(400, r#"{"isSuccessful":false,"errors":[{"errorCode":"Surprise"}]}"#).unwrap_err();
        assert!(matches!(unknown, HubError::Rejected(refusal) if refusal.error_code() == 400_000));
        let whole = judged(400, r#"{"Message":"ErrorCode:ArgumentInvalid;BadRequest"}"#).unwrap_err();
        assert!(matches!(whole, HubError::Rejected(refusal) if refusal.error_code() == 400_004));
    }

    /// DPS-HUB-16
    #[test]
    fn a_result_that_contradicts_itself_is_malformed() {
        let contradictions = [
            (200, "{}"),
            (200, "[]"),
            (200, ""),
            (200, r#"{"isSuccessful":false,"errors":[]}"#),
            (200, r#"{"isSuccessful":true,"errors":[{"errorCode":409001}]}"#),
            (400, r#"{"isSuccessful":true,"errors":[]}"#),
            (200, r#"{"isSuccessful":"true"}"#),
        ];
        for (status, body) in contradictions {
            let why = judged(status, body).unwrap_err();
            assert!(matches!(why, HubError::Malformed(_)), "{status} {body}: {why:?}");
        }
    }
}
