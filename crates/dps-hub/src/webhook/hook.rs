//! The webhook behind the port [`AllocationHook`]. Spec: DPS-REG-28, DPS-HUB-21.

use async_trait::async_trait;
use dps_core::custom_allocation::WebhookUrl;
use dps_core::ports::{AllocationHook, AllocationOutcome, HookAnswer, NamedHub};
use dps_core::registration::JsonText;

use super::{Allocation, Outcome, Retryable, Webhook};
use crate::outbound::HttpsUrl;

#[async_trait]
impl AllocationHook for Webhook {
    async fn ask(&self, url: &WebhookUrl, json: Vec<u8>) -> HookAnswer {
        let url: HttpsUrl = match url.expose().parse() {
            Ok(url) => url,
            Err(why) => {
                let told = format!("the webhook is not called: {why}");
                return HookAnswer { outcome: AllocationOutcome::NotSent, told };
            }
        };
        let outcome = self.call(&url, json.into()).await;
        let told = told(&outcome);
        HookAnswer { outcome: meaning(outcome), told }
    }
}

fn told(outcome: &Outcome) -> String {
    let mut told = outcome.to_string();
    if let Outcome::Named(allocation) = outcome {
        for left_out in &allocation.left_out {
            told.push_str(&format!("; left out: {left_out}"));
        }
    }
    told
}

fn meaning(outcome: Outcome) -> AllocationOutcome {
    match outcome {
        Outcome::Named(Allocation { hub, initial_twin, payload, left_out: _ }) => {
            let payload = payload.map(|payload| JsonText(payload.into()));
            AllocationOutcome::Named(Box::new(NamedHub { hub, initial_twin, payload }))
        }
        Outcome::NotNamed(_) => AllocationOutcome::NotNamed,
        Outcome::Unauthorized => AllocationOutcome::Unauthorized,
        Outcome::Refused { status } => AllocationOutcome::Refused { status },
        Outcome::Retryable(Retryable::Status(status)) => {
            AllocationOutcome::Retryable { status: Some(status) }
        }
        Outcome::Retryable(Retryable::NoAnswer(_)) => AllocationOutcome::Retryable { status: None },
        Outcome::Unreadable(_) => AllocationOutcome::Unreadable,
        Outcome::Blocked(_) | Outcome::RequestTooLarge => AllocationOutcome::NotSent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::LeftOut;

    /// DPS-REG-28, DPS-HUB-21
    #[test]
    fn each_outcome_has_its_meaning_and_what_was_left_out_is_told() {
        let allocation = Allocation {
            hub: "hub.example".parse().unwrap(),
            initial_twin: None,
            payload: Some(serde_json::from_str(r#"{"a": 1}"#).unwrap()),
            left_out: vec![LeftOut::InitialTwin],
        };
        let named = Outcome::Named(allocation);
        assert!(
            told(&named).ends_with("left out: initialTwin is no object with tags and properties.desired")
        );
        let AllocationOutcome::Named(named) = meaning(named) else { panic!("not named") };
        assert_eq!((named.hub.as_str(), &*named.payload.unwrap().0), ("hub.example", r#"{"a": 1}"#));
        let retried = meaning(Outcome::Retryable(Retryable::Status(503)));
        assert!(matches!(retried, AllocationOutcome::Retryable { status: Some(503) }));
        assert!(matches!(
            meaning(Outcome::Refused { status: 404 }),
            AllocationOutcome::Refused { status: 404 }
        ));
        assert!(matches!(meaning(Outcome::RequestTooLarge), AllocationOutcome::NotSent));
        assert!(matches!(meaning(Outcome::Unreadable(String::new())), AllocationOutcome::Unreadable));
        assert!(matches!(meaning(Outcome::Unauthorized), AllocationOutcome::Unauthorized));
    }
}
