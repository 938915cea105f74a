//! Queries, page by page. Spec: DPS-SERVICE-14, DPS-SERVICE-15. What they take of all: `query.rs`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dps_core::entry_filter::EntryFilter;
use dps_core::instance::ServiceInstance;
use dps_core::ports::Store;
use dps_proto::ids::EnrollmentGroupId;
use hyper::HeaderMap;
use serde_json::Value;

use super::ServiceFault;
use super::query::{Listing, Query};
use crate::enrollment_json::{self, EnrollmentEntry, Secrets};
use crate::render;

/// Items of a page where the client does not say.
const PAGE_DEFAULT: usize = 100;

/// Most items of a page.
const PAGE_MAX: usize = 1_000;

/// A page ends at this size, whatever the client asked for: entries may be large.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Items that are read from the store at a time.
const READ_AT_ONCE: usize = 100;

pub(super) const CONTINUATION: &str = "x-ms-continuation";
pub(super) const MAX_ITEM_COUNT: &str = "x-ms-max-item-count";
pub(super) const ITEM_TYPE: &str = "x-ms-item-type";

/// What is listed.
pub(super) enum Listed<'r> {
    IndividualEnrollments,
    EnrollmentGroups,
    RecordsOfGroup(&'r EnrollmentGroupId),
}

/// Which page is wanted.
pub(super) struct PageRequest {
    items: usize,
    /// The last id of the page before: a place between ids, whatever is written meanwhile. Spec: DPS-SERVICE-24.
    after: Option<String>,
}

/// One page.
pub(super) struct Page {
    pub(super) item_type: &'static str,
    pub(super) items_max: usize,
    /// Leads to the next one, if there is one.
    pub(super) continuation: Option<String>,
    /// A JSON array.
    pub(super) body: String,
}

impl PageRequest {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ServiceFault> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim());
        let items = match text(MAX_ITEM_COUNT).filter(|text| !text.is_empty()) {
            None => PAGE_DEFAULT,
            Some(count) => match count.parse::<i64>() {
                // Some clients send 0 or -1 for "as many as you like".
                Ok(..1) => PAGE_DEFAULT,
                Ok(count) => usize::try_from(count).unwrap_or(PAGE_MAX).min(PAGE_MAX),
                Err(_) => return Err(ServiceFault::Header(MAX_ITEM_COUNT)),
            },
        };
        let after = match text(CONTINUATION).filter(|text| !text.is_empty()) {
            None => None,
            Some(token) => {
                let id = URL_SAFE_NO_PAD.decode(token).ok().and_then(|id| String::from_utf8(id).ok());
                Some(id.ok_or(ServiceFault::Header(CONTINUATION))?)
            }
        };
        Ok(Self { items, after })
    }
}

impl Listed<'_> {
    /// Reads one page.
    pub(super) async fn page(
        &self,
        store: &dyn Store,
        instance: &ServiceInstance,
        query: &Query,
        request: PageRequest,
    ) -> Result<Page, ServiceFault> {
        let filter = self.filter(instance, query)?;
        let PageRequest { items: items_max, mut after } = request;
        let mut body = String::from("[");
        let mut count = 0;
        // One more than the page has room for says whether another page follows.
        let continuation = 'page: loop {
            let wanted = (items_max + 1 - count).min(READ_AT_ONCE);
            let chunk = self.read(store, instance, &filter, after.as_deref(), wanted).await?;
            let is_last = chunk.len() < wanted;
            for (id, item) in chunk {
                if count == items_max || body.len() > PAGE_BYTES {
                    break 'page after.map(|last| URL_SAFE_NO_PAD.encode(last));
                }
                if count > 0 {
                    body.push(',');
                }
                body.push_str(&item.to_string());
                count += 1;
                after = Some(id);
            }
            if is_last {
                break None;
            }
        };
        body.push(']');
        Ok(Page { item_type: self.item_type(), items_max, continuation, body })
    }

    /// What the query takes of these.
    fn filter(&self, instance: &ServiceInstance, query: &Query) -> Result<EntryFilter, ServiceFault> {
        let id = match self {
            Self::IndividualEnrollments => "registrationId",
            Self::EnrollmentGroups => "enrollmentGroupId",
            Self::RecordsOfGroup(_) => {
                query.of_records()?;
                return Ok(EntryFilter::default());
            }
        };
        let listing = Listing { id, default_allocation_policy: instance.default_allocation_policy };
        Ok(query.filter(&listing)?)
    }

    /// Up to `count` items after an id, each with its own.
    async fn read(
        &self,
        store: &dyn Store,
        instance: &ServiceInstance,
        filter: &EntryFilter,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<(String, Value)>, ServiceFault> {
        let (scope, policy) = (&instance.id_scope, instance.default_allocation_policy);
        let json = |entry| enrollment_json::entry(&entry, policy, Secrets::Hidden);
        let limit = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(match self {
            Self::IndividualEnrollments => {
                let after = parsed(after)?;
                let entries = store.individual_enrollments(scope, filter, after.as_ref(), limit).await?;
                let item = |entry: &_| EnrollmentEntry::Individual(Clone::clone(entry));
                entries
                    .iter()
                    .map(|entry| (entry.registration_id.to_string(), json(item(&**entry))))
                    .collect()
            }
            Self::EnrollmentGroups => {
                let after = parsed(after)?;
                let groups = store.enrollment_groups(scope, filter, after.as_ref(), limit).await?;
                let item = |group: &_| EnrollmentEntry::Group(Clone::clone(group));
                groups.iter().map(|group| (group.id.to_string(), json(item(&**group)))).collect()
            }
            Self::RecordsOfGroup(group) => {
                let after = parsed(after)?;
                let records = store.registrations_of_group(scope, group, after.as_ref(), limit).await?;
                records
                    .iter()
                    .map(|record| (record.registration_id.to_string(), render::record(record)))
                    .collect()
            }
        })
    }

    fn item_type(&self) -> &'static str {
        match self {
            Self::IndividualEnrollments => "Enrollment",
            Self::EnrollmentGroups => "EnrollmentGroup",
            Self::RecordsOfGroup(_) => "DeviceRegistration",
        }
    }
}

fn parsed<I: std::str::FromStr>(after: Option<&str>) -> Result<Option<I>, ServiceFault> {
    after.map(|id| id.parse().map_err(|_| ServiceFault::Header(CONTINUATION))).transpose()
}
