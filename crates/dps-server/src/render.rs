//! What was decided, as devices and clients of the service API read it. Spec: DPS-BODY-2 to DPS-BODY-7, DPS-REG-9, DPS-REG-20.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_core::refusal::TpmChallenge;
use dps_core::register::{Polled, Registered};
use dps_core::registration::{Failure, HubCredential, Registration, State, Substatus};
use dps_proto::api_version::ApiVersion;
use dps_proto::body::{
    AssignmentState, OperationStatus, ProvedByCertificate, RegistrationState, Status, TpmChallengeBody,
    TpmState, to_bytes,
};
use dps_proto::code::ErrorCode;
use dps_proto::date;
use dps_proto::ids::RegistrationId;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fault::{self, Answer, Transport};

/// The api-version that brought `reprovisionedToInitialAssignment`. Spec: DPS-BODY-7.
const FULL_SUBSTATUS_SINCE: &str = "2019-04-15";

/// The api-version that brought `payload`. Spec: DPS-BODY-12.
const PAYLOAD_SINCE: &str = "2019-03-31";

/// The answer to a register.
pub fn registered(
    registered: &Registered,
    api_version: &ApiVersion,
    transport: Transport,
    retry_after_s: u32,
) -> Answer {
    match registered {
        Registered::Accepted { operation_id, .. } => {
            let body = OperationStatus {
                operation_id: operation_id.to_string(),
                status: Status::Assigning,
                registration_state: None,
            };
            Answer { status: 202, retry_after_s: Some(retry_after_s), body: to_bytes(&body) }
        }
        Registered::Disabled { registration } => {
            let body = OperationStatus {
                operation_id: String::new(),
                status: Status::Disabled,
                registration_state: Some(state(registration, api_version)),
            };
            // Clients take nothing else for an answer to a register. Spec: DPS-HTTPS-4.
            let status = if transport == Transport::Https { 202 } else { 200 };
            Answer { status, retry_after_s: None, body: to_bytes(&body) }
        }
    }
}

/// The answer to a status look-up: the record alone. Spec: DPS-HTTPS-6.
pub fn looked_up(registration: &Registration, api_version: &ApiVersion) -> Answer {
    Answer { status: 200, retry_after_s: None, body: to_bytes(&state(registration, api_version)) }
}

/// What a device is asked to prove its TPM by. Spec: DPS-TPM-1.
pub fn tpm_challenge(challenge: &TpmChallenge) -> Answer {
    let body = TpmChallengeBody {
        message: "Unauthorized",
        authentication_key: STANDARD.encode(&challenge.authentication_key),
        key_name: "registration",
    };
    Answer { status: 401, retry_after_s: None, body: to_bytes(&body) }
}

/// What a device hears whose TPM is proved and not enrolled; there is no record. Spec: DPS-TPM-6.
pub fn tpm_not_enrolled(id: &RegistrationId, now: Timestamp) -> Answer {
    let (code, message) = fault::of_failure(&Failure::EnrollmentGone);
    let body = OperationStatus {
        operation_id: String::new(),
        status: Status::Failed,
        registration_state: Some(RegistrationState {
            tpm: None,
            x509: None,
            registration_id: id.as_str(),
            created_date_time_utc: None,
            assignment: None,
            status: Status::Failed,
            substatus: None,
            error_code: Some(code.value()),
            error_message: Some(message),
            last_updated_date_time_utc: Some(date::format(now)),
            etag: None,
            payload: None,
        }),
    };
    Answer { status: 202, retry_after_s: None, body: to_bytes(&body) }
}

/// The answer to a poll.
pub fn polled(polled: &Polled, api_version: &ApiVersion, retry_after_s: u32) -> Answer {
    let status = status(&polled.registration.state);
    let body = OperationStatus {
        operation_id: polled.operation_id.to_string(),
        status,
        registration_state: Some(RegistrationState {
            tpm: polled.tpm_key.as_ref().map(|key| TpmState { authentication_key: STANDARD.encode(key) }),
            ..state(&polled.registration, api_version)
        }),
    };
    let (status, retry_after_s) =
        if status == Status::Assigning { (202, Some(retry_after_s)) } else { (200, None) };
    Answer { status, retry_after_s, body: to_bytes(&body) }
}

fn status(state: &State) -> Status {
    match state {
        State::Choosing { .. } | State::Assigning { .. } => Status::Assigning,
        State::Assigned { .. } => Status::Assigned,
        State::Failed { .. } => Status::Failed,
        State::Disabled { .. } => Status::Disabled,
    }
}

fn state<'r>(registration: &'r Registration, api_version: &ApiVersion) -> RegistrationState<'r> {
    let bare = RegistrationState {
        tpm: None,
        x509: None,
        registration_id: registration.registration_id.as_str(),
        created_date_time_utc: None,
        assignment: None,
        status: status(&registration.state),
        substatus: None,
        error_code: None,
        error_message: None,
        last_updated_date_time_utc: None,
        etag: None,
        payload: None,
    };
    let updated = Some(date::format(registration.updated_at));
    let etag = Some(registration.etag.as_str());
    match &registration.state {
        // Spec: DPS-BODY-3. Small clients have room for little more than this while they wait; DPS-BODY-8 for the rest.
        State::Choosing { .. } | State::Assigning { .. } => bare,
        State::Assigned { assignment, substatus } => RegistrationState {
            x509: matches!(assignment.credential, HubCredential::Certificate { .. })
                .then_some(ProvedByCertificate {}),
            created_date_time_utc: Some(date::format(registration.created_at)),
            assignment: Some(AssignmentState {
                assigned_hub: assignment.hub.as_str(),
                device_id: assignment.device_id.as_str(),
            }),
            substatus: Some(substatus_word(*substatus, api_version)),
            last_updated_date_time_utc: updated,
            etag,
            payload: payload(registration).filter(|_| api_version.reaches(PAYLOAD_SINCE)),
            ..bare
        },
        State::Failed { failure, .. } => {
            let (code, message) = fault::of_failure(failure);
            RegistrationState {
                created_date_time_utc: Some(date::format(registration.created_at)),
                error_code: Some(code.value()),
                error_message: Some(message),
                last_updated_date_time_utc: updated,
                etag,
                ..bare
            }
        }
        State::Disabled { .. } => RegistrationState { last_updated_date_time_utc: updated, etag, ..bare },
    }
}

/// A record as clients of the service API read it. Spec: DPS-SERVICE-13, DPS-SERVICE-17.
pub fn record(registration: &Registration) -> Value {
    let last = match &registration.state {
        State::Assigned { assignment, .. } => Some(assignment),
        // Where the device lives still, whatever became of its latest operation.
        State::Choosing { last, .. }
        | State::Assigning { last, .. }
        | State::Failed { last, .. }
        | State::Disabled { last } => last.as_ref(),
    };
    let (code, message) = match &registration.state {
        State::Failed { failure, .. } => Some(fault::of_failure(failure)).unzip(),
        State::Choosing { .. }
        | State::Assigning { .. }
        | State::Assigned { .. }
        | State::Disabled { .. } => (None, None),
    };
    let record = RegistrationState {
        tpm: None,
        x509: None,
        registration_id: registration.registration_id.as_str(),
        created_date_time_utc: Some(date::format(registration.created_at)),
        assignment: last.map(|assignment| AssignmentState {
            assigned_hub: assignment.hub.as_str(),
            device_id: assignment.device_id.as_str(),
        }),
        status: status(&registration.state),
        substatus: match &registration.state {
            State::Assigned { substatus, .. } => Some(full_substatus_word(*substatus)),
            State::Choosing { .. }
            | State::Assigning { .. }
            | State::Failed { .. }
            | State::Disabled { .. } => None,
        },
        error_code: code.map(ErrorCode::value),
        error_message: message,
        last_updated_date_time_utc: Some(date::format(registration.updated_at)),
        etag: Some(registration.etag.as_str()),
        payload: match &registration.state {
            State::Assigned { .. } => payload(registration),
            _ => None,
        },
    };
    // It holds text and numbers only.
    serde_json::to_value(&record).unwrap_or_default()
}

/// Spec: DPS-BODY-12. It was JSON when it came in.
fn payload(registration: &Registration) -> Option<&RawValue> {
    registration.payload.as_ref().and_then(|payload| serde_json::from_str(&payload.0).ok())
}

/// Spec: DPS-BODY-7.
fn substatus_word(substatus: Substatus, api_version: &ApiVersion) -> &'static str {
    match substatus {
        Substatus::ReprovisionedToInitialAssignment if !api_version.reaches(FULL_SUBSTATUS_SINCE) => {
            full_substatus_word(Substatus::InitialAssignment)
        }
        _ => full_substatus_word(substatus),
    }
}

fn full_substatus_word(substatus: Substatus) -> &'static str {
    match substatus {
        Substatus::InitialAssignment => "initialAssignment",
        Substatus::ReprovisionedToInitialAssignment => "reprovisionedToInitialAssignment",
        Substatus::DeviceDataMigrated => "deviceDataMigrated",
        Substatus::DeviceDataReset => "deviceDataReset",
    }
}

#[cfg(test)]
mod tests {
    use dps_core::enrollment::EntryRef;
    use dps_core::registration::{Assignment, JsonText, Operation, Placing, Waiting};
    use dps_proto::ids::{ETag, InstanceSecret, OperationId};

    use super::*;

    fn assignment(hub: &str) -> Assignment {
        Assignment {
            hub: hub.parse().unwrap(),
            device_id: "sensor-7".parse().unwrap(),
            credential: HubCredential::EnrollmentKeys,
        }
    }

    fn polled_in(state: State) -> Polled {
        let (scope, id) = ("0ne00000000".parse().unwrap(), "sensor-7".parse().unwrap());
        let guid = "b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550".parse().unwrap();
        Polled {
            operation_id: OperationId::derive(&InstanceSecret::new([7; 32]), &scope, &id, guid),
            registration: Registration {
                id_scope: scope,
                registration_id: id,
                entry: EntryRef::Group("line-7".parse().unwrap()),
                created_at: Timestamp::new(1_661_983_370, 516_335_200).unwrap(),
                updated_at: Timestamp::new(1_661_983_370, 737_067_600).unwrap(),
                etag: ETag::generate([0x11; 16], 1_661_983_370),
                operation: Operation { guid, began_at: Timestamp::UNIX_EPOCH },
                storage_root_key: None,
                payload: None,
                strays_until: None,
                state,
            },
            tpm_key: None,
        }
    }

    #[track_caller]
    fn answers(state: State, version: &str, status: u16, retry_after_s: Option<u32>, expected: &str) {
        let answer = polled(&polled_in(state), &version.parse().unwrap(), 3);
        assert_eq!((answer.status, answer.retry_after_s), (status, retry_after_s));
        assert_eq!(String::from_utf8_lossy(&answer.body), expected);
    }

    const OPERATION: &str = r#"{"operationId":"5.09f0f0bd6d706c5e.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550","#;
    const DATES: &str = r#""lastUpdatedDateTimeUtc":"2022-08-31T22:02:50.7370676Z","etag":"IjExMTExMTExLTExMTEtMTExMS0xMTExLTYzMGZkYThhMDAwMCI="}}"#;

    /// DPS-BODY-1, DPS-BODY-4, DPS-BODY-6, DPS-BODY-7, DPS-REG-9
    #[test]
    fn an_assigned_device_reads_what_captures_show() {
        let assigned = |substatus| State::Assigned { assignment: assignment("hub.localhost"), substatus };
        let text = |word: &str| {
            format!(
                r#"{OPERATION}"status":"assigned","registrationState":{{"registrationId":"sensor-7","createdDateTimeUtc":"2022-08-31T22:02:50.5163352Z","assignedHub":"hub.localhost","deviceId":"sensor-7","status":"assigned","substatus":"{word}",{DATES}"#
            )
        };
        answers(assigned(Substatus::InitialAssignment), "2019-03-31", 200, None, &text("initialAssignment"));
        let again = Substatus::ReprovisionedToInitialAssignment;
        answers(assigned(again), "2019-03-31", 200, None, &text("initialAssignment"));
        answers(assigned(again), "2021-06-01", 200, None, &text("reprovisionedToInitialAssignment"));
        answers(assigned(Substatus::DeviceDataReset), "2019-03-31", 200, None, &text("deviceDataReset"));
    }

    /// DPS-BODY-12
    #[test]
    fn what_the_webhook_has_for_a_device_is_told_last_and_byte_for_byte() {
        let state = State::Assigned {
            assignment: assignment("hub.localhost"),
            substatus: Substatus::InitialAssignment,
        };
        let mut polled = polled_in(state.clone());
        polled.registration.payload = Some(JsonText(r#"{ "b" : [1.10] }"#.into()));
        let told = |polled: &Polled, version: &str| {
            let answer = super::polled(polled, &version.parse().unwrap(), 3);
            String::from_utf8_lossy(&answer.body).into_owned()
        };
        let expected = format!(r#"{},"payload":{{ "b" : [1.10] }}}}}}"#, &DATES[..DATES.len() - 2]);
        assert!(told(&polled, "2019-03-31").ends_with(&expected), "{}", told(&polled, "2019-03-31"));
        assert!(told(&polled, "2018-11-01").ends_with(DATES));
        assert_eq!(
            record(&polled.registration)["payload"],
            serde_json::from_str::<Value>(r#"{"b": [1.10]}"#).unwrap()
        );
        polled.registration.state = State::Failed { failure: Failure::WebhookSilent, last: None };
        assert!(!told(&polled, "2019-03-31").contains("payload"));
    }

    /// DPS-BODY-3, DPS-REG-27
    #[test]
    fn a_device_whose_hub_is_yet_to_be_chosen_reads_the_same_as_one_that_waits_for_its_hub() {
        let waiting = Waiting {
            credential: HubCredential::EnrollmentKeys,
            certificate: None,
            payload: None,
            predates_reprovisioning: false,
            webhook_host: "hook.example".into(),
            tries: 0,
            due_at: Timestamp::UNIX_EPOCH,
        };
        let choosing = State::Choosing { waiting: Box::new(waiting), last: Some(assignment("h.x")) };
        let text = format!(
            r#"{OPERATION}"status":"assigning","registrationState":{{"registrationId":"sensor-7","status":"assigning"}}}}"#
        );
        answers(choosing, "2019-03-31", 202, Some(3), &text);
    }

    /// DPS-BODY-11
    #[test]
    fn a_device_with_a_certificate_reads_so_first() {
        let thumbprint = dps_core::x509::Sha256Thumbprint::from_bytes([1; 32]);
        let credential = HubCredential::Certificate { thumbprint };
        let assignment = Assignment { credential, ..assignment("hub.localhost") };
        let substatus = Substatus::InitialAssignment;
        let text = format!(
            r#"{OPERATION}"status":"assigned","registrationState":{{"x509":{{}},"registrationId":"sensor-7","createdDateTimeUtc":"2022-08-31T22:02:50.5163352Z","assignedHub":"hub.localhost","deviceId":"sensor-7","status":"assigned","substatus":"initialAssignment",{DATES}"#
        );
        answers(State::Assigned { assignment, substatus }, "2019-03-31", 200, None, &text);
    }

    /// DPS-BODY-3
    #[test]
    fn a_waiting_device_reads_its_id_and_status_alone() {
        let placing = Placing {
            target: assignment("hub.localhost"),
            takes_along: false,
            iot_edge: false,
            initial_twin: None,
            peer: "0ne00000000/hub.localhost".into(),
            since: Timestamp::UNIX_EPOCH,
            unanswered_at: None,
            tries: 0,
            due_at: Timestamp::UNIX_EPOCH,
        };
        let state = State::Assigning { placing: Box::new(placing), last: None };
        let text = format!(
            r#"{OPERATION}"status":"assigning","registrationState":{{"registrationId":"sensor-7","status":"assigning"}}}}"#
        );
        answers(state, "2019-03-31", 202, Some(3), &text);
    }

    /// DPS-BODY-5, DPS-REG-15
    #[test]
    fn a_failed_operation_reads_its_code_in_an_answer_of_status_200() {
        let state = State::Failed { failure: Failure::NoUsableHub, last: None };
        let text = format!(
            r#"{OPERATION}"status":"failed","registrationState":{{"registrationId":"sensor-7","createdDateTimeUtc":"2022-08-31T22:02:50.5163352Z","status":"failed","errorCode":401001,"errorMessage":"IoTHub not found.",{DATES}"#
        );
        answers(state, "2019-03-31", 200, None, &text);
    }

    /// DPS-REG-20
    #[test]
    fn a_disabled_device_reads_so_at_register_and_at_a_poll() {
        let disabled = polled_in(State::Disabled { last: Some(assignment("hub.localhost")) });
        let version = "2019-03-31".parse().unwrap();
        let rest = format!(
            r#""status":"disabled","registrationState":{{"registrationId":"sensor-7","status":"disabled",{DATES}"#
        );
        let at_register = Registered::Disabled { registration: disabled.registration.clone() };
        let answer = registered(&at_register, &version, Transport::Mqtt, 3);
        assert_eq!((answer.status, answer.retry_after_s), (200, None));
        assert_eq!(String::from_utf8_lossy(&answer.body), format!(r#"{{"operationId":"",{rest}"#));
        let over_https = registered(&at_register, &version, Transport::Https, 3);
        assert_eq!((over_https.status, over_https.retry_after_s, over_https.body), (202, None, answer.body));
        answers(disabled.registration.state, "2019-03-31", 200, None, &format!("{OPERATION}{rest}"));
    }

    /// DPS-BODY-2, DPS-REG-9
    #[test]
    fn an_accepted_register_is_a_202_with_no_state_in_it() {
        let Polled { operation_id, registration, .. } = polled_in(State::Assigned {
            assignment: assignment("h.x"),
            substatus: Substatus::InitialAssignment,
        });
        let accepted =
            Registered::Accepted { operation_id, registration, noted: dps_core::register::Noted::default() };
        let answer = registered(&accepted, &"2019-03-31".parse().unwrap(), Transport::Https, 3);
        assert_eq!((answer.status, answer.retry_after_s), (202, Some(3)));
        assert_eq!(String::from_utf8_lossy(&answer.body), format!(r#"{OPERATION}"status":"assigning"}}"#));
    }

    /// DPS-BODY-8
    #[test]
    fn the_assigned_answer_fits_the_smallest_client() {
        let hub = "a-hub-with-rather-a-long-name.westeurope.devices.example.com";
        let mut polled = polled_in(State::Assigned {
            assignment: assignment(hub),
            substatus: Substatus::ReprovisionedToInitialAssignment,
        });
        polled.registration.registration_id = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6".parse().unwrap();
        let answer = super::polled(&polled, &"2021-06-01".parse().unwrap(), 3);
        assert!(answer.body.len() <= 512, "{}", answer.body.len());
    }
}
