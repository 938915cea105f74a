//! Lists, a page at a time. Spec: DPS-CLI-11.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::{Listing, ServiceClient, ServiceError};

/// Most items that one page is asked for.
const PAGE_ITEMS_MAX: usize = 1_000;

/// A list that is being read: the next page is fetched when it is asked for.
#[derive(Debug)]
pub struct Pages<'c> {
    client: &'c mut ServiceClient,
    listing: Listing,
    /// Items still wanted; `None` for all.
    left: Option<usize>,
    /// Where the next page begins; `None` before the first.
    continuation: Option<String>,
    /// A service that repeats itself would be listed for ever.
    seen: HashSet<String>,
    ended: bool,
}

impl<'c> Pages<'c> {
    pub(super) fn new(client: &'c mut ServiceClient, listing: Listing, limit: Option<usize>) -> Self {
        let ended = limit == Some(0);
        Self { client, listing, left: limit, continuation: None, seen: HashSet::new(), ended }
    }

    /// The next page; it may be empty and not the last. `None` at the end.
    ///
    /// # Errors
    /// Where a page cannot be had. Asking again asks for the same page.
    pub async fn next(&mut self) -> Result<Option<Vec<Box<RawValue>>>, ServiceError> {
        if self.ended {
            return Ok(None);
        }
        let items_max = self.left.map(|left| left.min(PAGE_ITEMS_MAX));
        let (mut items, continuation) =
            self.client.page(&self.listing, self.continuation.as_deref(), items_max).await?;
        if let Some(left) = &mut self.left {
            items.truncate(*left);
            *left -= items.len();
        }
        self.ended = continuation.is_none() || self.left == Some(0);
        if let Some(token) = continuation
            && !self.ended
        {
            if !self.seen.insert(token.clone()) {
                return Err(self.client.not_of_the_api("a page names itself as the one that follows"));
            }
            self.continuation = Some(token);
        }
        Ok(Some(items))
    }
}
