//! Several entries in one request.

use hyper::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Listing, ServiceClient, ServiceError};

/// Most entries of one request, as Azure has it.
pub const BULK_ENTRIES_MAX: usize = 10;

/// What is done with each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BulkMode {
    /// It is made; one that exists is refused.
    Create,
    /// It replaces the one that exists.
    Update,
}

/// An entry that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkFailure {
    /// Of individual enrollments.
    registration_id: Option<String>,
    /// Of groups.
    enrollment_group_id: Option<String>,
    /// The service's code: a status times 1,000 and a detail.
    #[serde(default)]
    pub error_code: u32,
    /// The service's text.
    #[serde(default)]
    pub error_status: String,
}

impl BulkFailure {
    /// The entry, as the request spelled it.
    pub fn id(&self) -> Option<&str> {
        self.registration_id.as_deref().or(self.enrollment_group_id.as_deref())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    is_successful: bool,
    #[serde(default)]
    errors: Vec<BulkFailure>,
}

impl ServiceClient {
    /// Writes at most [`BULK_ENTRIES_MAX`] entries of one kind, each for itself; those that were refused. What `listing` lists says which kind.
    pub async fn bulk(
        &mut self,
        listing: &Listing,
        mode: BulkMode,
        entries: &[&RawValue],
    ) -> Result<Vec<BulkFailure>, ServiceError> {
        let (path, member) = match listing {
            Listing::Individuals => ("/enrollments", "enrollments"),
            Listing::Groups | Listing::RegistrationsOf(_) => ("/enrollmentGroups", "enrollmentGroups"),
        };
        let mode = serde_json::to_string(&mode).unwrap_or_default();
        let entries: Vec<_> = entries.iter().map(|entry| entry.get()).collect();
        let body = format!(r#"{{"mode":{mode},"{member}":[{}]}}"#, entries.join(","));
        let answer = self.ask(Method::POST, path, HeaderMap::new(), Some(body)).await?;
        let outcome: Outcome =
            serde_json::from_slice(&answer.body).map_err(|why| self.not_of_the_api(why))?;
        if outcome.is_successful != outcome.errors.is_empty() {
            return Err(self.not_of_the_api("isSuccessful and errors contradict each other"));
        }
        Ok(outcome.errors)
    }

    /// One more client for the same policy, with a connection of its own.
    pub fn another(&self) -> Self {
        Self {
            connection_string: self.connection_string.clone(),
            address: self.address,
            tls: self.tls.clone(),
            deadlines: self.deadlines,
            connection: None,
        }
    }
}
