//! Many devices in one request.

use std::collections::BTreeSet;

use dps_proto::ids::DeviceId;
use serde_json::{Map, Value, json};

use crate::device_body::{DeviceBody, text};
use crate::refusal::Refusal;
use crate::registry::{IfMatch, Registry};
use crate::twin::TwinChange;

/// Most devices of one request.
const DEVICES_MAX: usize = 100;

/// The result of a bulk request, and whether all of it was done.
pub(crate) fn run(registry: &mut Registry, body: Value) -> Result<(Value, bool), Refusal> {
    let Value::Array(items) = body else { return Err(Refusal::argument_invalid("The body is no array.")) };
    if !(1..=DEVICES_MAX).contains(&items.len()) {
        return Err(Refusal::argument_invalid(format!("The array has not 1 to {DEVICES_MAX} devices.")));
    }
    let mut devices = Vec::new();
    let mut ids = BTreeSet::new();
    for item in items {
        let Value::Object(mut item) = item else {
            return Err(Refusal::argument_invalid("A device is no object."));
        };
        let id = text(&mut item, "id")?.filter(|id| id.parse::<DeviceId>().is_ok());
        let id = id.ok_or_else(|| Refusal::argument_invalid("A device has no id."))?;
        if !ids.insert(id.clone()) {
            return Err(Refusal::defined_twice(&id));
        }
        devices.push((id, item));
    }
    let mut errors = Vec::new();
    for (id, item) in devices {
        if let Err(refusal) = one(registry, &id, item) {
            errors.push(json!({
                "deviceId": id, "moduleId": null, "errorCode": refusal.code, "errorStatus": refusal.text,
            }));
        }
    }
    let is_successful = errors.is_empty();
    Ok((json!({"isSuccessful": is_successful, "errors": errors, "warnings": []}), is_successful))
}

fn one(registry: &mut Registry, id: &str, mut item: Map<String, Value>) -> Result<(), Refusal> {
    if text(&mut item, "moduleId")?.is_some() {
        return Err(Refusal::argument_invalid("moduleId: modules are not kept here."));
    }
    let mode = text(&mut item, "importMode")?.unwrap_or_default().to_ascii_lowercase();
    let etag = |item: &mut Map<String, Value>, members: &[&str]| -> Result<IfMatch, Refusal> {
        let given = members.iter().find_map(|member| text(item, member).transpose()).transpose()?;
        given
            .map(|etag| IfMatch::parse(&etag))
            .ok_or_else(|| Refusal::argument_invalid("The etag is missing."))
    };
    let if_match = match mode.as_str() {
        // The Node SDK sends the etag as it has read it.
        "updateifmatchetag" | "deleteifmatchetag" => etag(&mut item, &["eTag", "etag"])?,
        "createorupdateifmatchetag" if registry.contains(id) => etag(&mut item, &["eTag", "etag"])?,
        "updatetwinifmatchetag" => etag(&mut item, &["twinETag"])?,
        _ => IfMatch::Any,
    };
    item.shift_remove("twinETag");
    let twin = TwinChange::take(&mut item)?;
    match mode.as_str() {
        "create" => registry.create(id, DeviceBody::take(item)?, twin),
        "createorupdate" | "createorupdateifmatchetag" if !registry.contains(id) => {
            registry.create(id, DeviceBody::take(item)?, twin)
        }
        "update" | "updateifmatchetag" | "createorupdate" | "createorupdateifmatchetag" => {
            if !twin.is_empty() {
                return Err(Refusal::argument_invalid(
                    "tags and properties: what becomes of them here is not known.",
                ));
            }
            registry.change(id, &if_match, DeviceBody::take(item)?)
        }
        "delete" | "deleteifmatchetag" => registry.delete(id, &if_match),
        "updatetwin" | "updatetwinifmatchetag" => registry.merge_twin(id, &if_match, twin),
        other => Err(Refusal::argument_invalid(format!("importMode is '{other}'."))),
    }
}
