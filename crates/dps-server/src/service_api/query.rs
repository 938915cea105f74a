//! The text of a query: everything, or the entries that a WHERE takes. Spec: DPS-SERVICE-14, DPS-SERVICE-23 to DPS-SERVICE-25.
//!
//! Clients send all kinds of text that was never meant to be read, so only one with the word WHERE is. That one has to be
//! understood to its end: a list that is longer than what was asked for ends up in scripts that delete.

use dps_core::enrollment::{AllocationPolicy, ProvisioningStatus};
use dps_core::entry_filter::{AttestationKind, EntryFilter, IdFilter, PolicyFilter, TimeRange};
use dps_proto::ids::HubName;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::ServiceFault;
use super::words::{Token, Words, is_where, word, words};

/// Why a query is not run.
#[derive(Debug, thiserror::Error)]
pub enum BadQuery {
    /// The body is no JSON object, or its `query` no text.
    #[error("query must be a text, a member of an object")]
    NoText,
    /// The word that cannot stand where it does.
    #[error("query: {expected} is expected where {word:?} stands")]
    Word {
        /// The word, or its beginning.
        word: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// The text is too short.
    #[error("query: {0} is expected where the text ends")]
    Ends(&'static str),
    /// Each member has one condition, a date a lower and an upper bound.
    #[error("query: a second condition on {0} cannot be run")]
    Twice(String),
}

/// What a list holds, by the text of the query.
pub(super) struct Query {
    /// `None`: everything.
    condition: Option<String>,
}

/// What the members of the listed entries are called and mean.
pub(super) struct Listing {
    /// The member with the id.
    pub(super) id: &'static str,
    pub(super) default_allocation_policy: AllocationPolicy,
}

impl Query {
    /// Reads the body of a query; without one everything is listed.
    pub(super) fn read(body: &[u8]) -> Result<Self, ServiceFault> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self { condition: None });
        }
        let json: Value =
            serde_json::from_slice(body).map_err(|why| ServiceFault::NotJson(why.to_string()))?;
        let object = match json {
            Value::Null => return Ok(Self { condition: None }),
            Value::Object(object) => object,
            _ => return Err(BadQuery::NoText.into()),
        };
        let mut condition = None;
        for (_, text) in object.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case("query")) {
            match text {
                Value::Null => {}
                Value::String(text) if words(&text).any(is_where) => condition = Some(text),
                Value::String(_) => {}
                _ => return Err(BadQuery::NoText.into()),
            }
        }
        Ok(Self { condition })
    }

    /// The entries that it takes.
    pub(super) fn filter(&self, listing: &Listing) -> Result<EntryFilter, BadQuery> {
        let mut filter = EntryFilter::default();
        let Some(text) = &self.condition else { return Ok(filter) };
        let mut text = Words::of(text);
        text.keyword("SELECT")?;
        text.symbol("*")?;
        if !text.next_is(is_where) {
            text.keyword("FROM")?;
            text.name("the name of a table")?;
        }
        text.keyword("WHERE")?;
        loop {
            text.condition(listing, &mut filter)?;
            if text.is_at_end() {
                return Ok(filter);
            }
            text.keyword("AND")?;
        }
    }

    /// Records are listed by their group alone.
    pub(super) fn of_records(&self) -> Result<(), BadQuery> {
        let Some(text) = &self.condition else { return Ok(()) };
        let word = words(text).find(|word| is_where(word)).unwrap_or_default();
        Err(BadQuery::Word { word: word.to_owned(), expected: "the end of a query of records" })
    }
}

impl Words {
    /// One condition, added to `filter`.
    fn condition(&mut self, listing: &Listing, filter: &mut EntryFilter) -> Result<(), BadQuery> {
        let expected = "registrationId or enrollmentGroupId, provisioningStatus, attestation.type, allocationPolicy, \
                        iotHubs, createdDateTimeUtc or lastUpdatedDateTimeUtc";
        let name = self.name(expected)?;
        let member = [
            listing.id,
            "STARTS_WITH",
            "provisioningStatus",
            "attestation.type",
            "allocationPolicy",
            "iotHubs",
            "createdDateTimeUtc",
            "lastUpdatedDateTimeUtc",
        ]
        .into_iter()
        .find(|member| member.eq_ignore_ascii_case(&name));
        match member {
            Some("STARTS_WITH") => {
                self.symbol("(")?;
                self.keyword(listing.id)?;
                self.symbol(",")?;
                let prefix = self.text("a text in quotes")?;
                self.symbol(")")?;
                set(&mut filter.id, IdFilter::BeginsWith(folded(&prefix)), listing.id)
            }
            Some("provisioningStatus") => {
                let words =
                    [("enabled", ProvisioningStatus::Enabled), ("disabled", ProvisioningStatus::Disabled)];
                let status = self.is_one_of(&words, "'enabled' or 'disabled'")?;
                set(&mut filter.provisioning_status, status, &name)
            }
            Some("attestation.type") => {
                let words = [
                    ("symmetricKey", AttestationKind::SymmetricKey),
                    ("x509", AttestationKind::X509),
                    ("tpm", AttestationKind::Tpm),
                ];
                let kind = self.is_one_of(&words, "'symmetricKey', 'x509' or 'tpm'")?;
                set(&mut filter.attestation, kind, &name)
            }
            Some("allocationPolicy") => {
                let words = AllocationPolicy::ALL.map(|policy| (policy.as_str(), policy));
                let policy = self.is_one_of(&words, "'hashed', 'static', 'geoLatency' or 'custom'")?;
                let is_default = policy == listing.default_allocation_policy;
                set(&mut filter.allocation_policy, PolicyFilter { policy, is_default }, &name)
            }
            Some("iotHubs") => {
                let expected = "the host name of a hub in quotes";
                self.symbol("=")?;
                let text = self.text(expected)?;
                let hub: HubName = text.parse().map_err(|_| word(&Token::Text(text), expected))?;
                set(&mut filter.hub, hub, &name)
            }
            Some("createdDateTimeUtc") => self.date(&mut filter.created_at, &name),
            Some("lastUpdatedDateTimeUtc") => self.date(&mut filter.updated_at, &name),
            Some(_) => {
                let wanted = self.id()?;
                set(&mut filter.id, wanted, listing.id)
            }
            None => Err(word(&Token::Name(name), expected)),
        }
    }

    fn id(&mut self) -> Result<IdFilter, BadQuery> {
        let operator = self.take("= or LIKE")?;
        match &operator {
            Token::Symbol(symbol) if symbol == "=" => {
                Ok(IdFilter::Is(folded(&self.text("an id in quotes")?)))
            }
            Token::Name(name) if name.eq_ignore_ascii_case("LIKE") => {
                let expected = "the beginning of an id and one % (or STARTS_WITH, where _ stands for itself)";
                let pattern = self.text(expected)?;
                match pattern.strip_suffix('%') {
                    Some(prefix) if !prefix.contains(['%', '_']) => Ok(IdFilter::BeginsWith(folded(prefix))),
                    _ => Err(word(&Token::Text(pattern), expected)),
                }
            }
            _ => Err(word(&operator, "= or LIKE")),
        }
    }

    /// Dates are compared as they are shown, in steps of 100 ns.
    fn date(&mut self, range: &mut TimeRange, member: &str) -> Result<(), BadQuery> {
        const STEP: SignedDuration = SignedDuration::from_nanos(100);
        const INSTANT: SignedDuration = SignedDuration::from_nanos(1);
        let operator = self.take("=, <, <=, > or >=")?;
        let Token::Symbol(symbol) = &operator else { return Err(word(&operator, "=, <, <=, > or >=")) };
        if !["=", "<", "<=", ">", ">="].contains(&symbol.as_str()) {
            return Err(word(&operator, "=, <, <=, > or >="));
        }
        let expected = "a date such as '2026-01-31T00:00:00Z'";
        let text = self.text(expected)?;
        let first: Timestamp = text.parse().map_err(|_| word(&Token::Text(text.clone()), expected))?;
        let beyond = first.checked_add(STEP).map_err(|_| word(&Token::Text(text.clone()), expected))?;
        let before =
            |at: Timestamp| at.checked_sub(INSTANT).map_err(|_| word(&Token::Text(text.clone()), expected));
        let (from, to) = match symbol.as_str() {
            "<" => (None, Some(before(first)?)),
            "<=" => (None, Some(before(beyond)?)),
            ">" => (Some(beyond), None),
            ">=" => (Some(first), None),
            _ => (Some(first), Some(before(beyond)?)),
        };
        if let Some(from) = from {
            set(&mut range.from, from, member)?;
        }
        to.map_or(Ok(()), |to| set(&mut range.to, to, member))
    }

    fn is_one_of<T: Copy>(&mut self, words: &[(&str, T)], expected: &'static str) -> Result<T, BadQuery> {
        self.symbol("=")?;
        let text = self.text(expected)?;
        let known = words.iter().find(|(known, _)| known.eq_ignore_ascii_case(&text));
        known.map(|(_, value)| *value).ok_or_else(|| word(&Token::Text(text), expected))
    }
}

fn set<T>(place: &mut Option<T>, value: T, member: &str) -> Result<(), BadQuery> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadQuery::Twice(member.to_owned())),
    }
}

fn folded(id: &str) -> Box<str> {
    id.to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDIVIDUALS: Listing =
        Listing { id: "registrationId", default_allocation_policy: AllocationPolicy::Hashed };

    fn query(text: &str) -> Query {
        Query::read(serde_json::json!({ "query": text }).to_string().as_bytes()).unwrap()
    }

    fn filter(condition: &str) -> Result<EntryFilter, BadQuery> {
        query(&format!("SELECT * FROM enrollments WHERE {condition}")).filter(&INDIVIDUALS)
    }

    /// DPS-SERVICE-14: what clients really send, and what they might.
    #[test]
    fn a_text_without_where_takes_everything() {
        for body in [
            "",
            " ",
            "null",
            "{}",
            r#"{"query": null}"#,
            r#"{"query": ""}"#,
            r#"{"query": "*"}"#,
            r#"{"query": "SELECT *"}"#,
            r#"{"query": "{'additional_properties': {}, 'query': 'SELECT *'}"}"#,
            r#"{"query": "select * from enrollments group by somewhere, where_else"}"#,
            r#"{"query": "ж' \"(", "other": 7}"#,
        ] {
            let filter = Query::read(body.as_bytes()).unwrap().filter(&INDIVIDUALS).unwrap();
            assert_eq!(filter, EntryFilter::default(), "{body}");
        }
    }

    /// DPS-SERVICE-23
    #[test]
    fn each_condition_is_read_in_any_case_and_spacing() {
        let all = EntryFilter::default;
        let with_id = |id| EntryFilter { id: Some(id), ..all() };
        let at = |text: &str| -> Option<Timestamp> { Some(text.parse().unwrap()) };
        let created = |from, to| EntryFilter { created_at: TimeRange { from, to }, ..all() };
        let with_policy = |policy, is_default| EntryFilter {
            allocation_policy: Some(PolicyFilter { policy, is_default }),
            ..all()
        };
        let rows = [
            ("registrationId = 'Press-7'", with_id(IdFilter::Is("press-7".into()))),
            ("REGISTRATIONID=\"press-7\"", with_id(IdFilter::Is("press-7".into()))),
            ("registrationId LIKE 'Press-%'", with_id(IdFilter::BeginsWith("press-".into()))),
            ("registrationId like '%'", with_id(IdFilter::BeginsWith("".into()))),
            ("starts_with(registrationId, 'p_')", with_id(IdFilter::BeginsWith("p_".into()))),
            ("registrationId = 'it''s'", with_id(IdFilter::Is("it's".into()))),
            (
                "provisioningStatus = 'disabled'",
                EntryFilter { provisioning_status: Some(ProvisioningStatus::Disabled), ..all() },
            ),
            ("attestation.type='X509'", EntryFilter { attestation: Some(AttestationKind::X509), ..all() }),
            ("allocationPolicy = 'hashed'", with_policy(AllocationPolicy::Hashed, true)),
            ("allocationPolicy = 'static'", with_policy(AllocationPolicy::Static, false)),
            ("allocationPolicy = 'custom'", with_policy(AllocationPolicy::Custom, false)),
            (
                "iotHubs = 'hub.localhost'",
                EntryFilter { hub: Some("hub.localhost".parse().unwrap()), ..all() },
            ),
            (
                "createdDateTimeUtc = '2026-11-20T08:00:00.1234567Z'",
                created(at("2026-11-20T08:00:00.123456700Z"), at("2026-11-20T08:00:00.123456799Z")),
            ),
            (
                "createdDateTimeUtc > '2026-11-20T08:00:00Z' AND createdDateTimeUtc <= '2026-11-20T10:00:00+01:00'",
                created(at("2026-11-20T08:00:00.000000100Z"), at("2026-11-20T09:00:00.000000099Z")),
            ),
            (
                "createdDateTimeUtc>='2026-11-20T08:00:00Z' and createdDateTimeUtc<'2026-11-20T09:00:00Z'",
                created(at("2026-11-20T08:00:00Z"), at("2026-11-20T08:59:59.999999999Z")),
            ),
            (
                "lastUpdatedDateTimeUtc >= '2026-11-20T08:00:00Z'\n\tAND\nregistrationId='a'",
                EntryFilter {
                    updated_at: TimeRange { from: at("2026-11-20T08:00:00Z"), to: None },
                    ..with_id(IdFilter::Is("a".into()))
                },
            ),
        ];
        for (condition, expected) in rows {
            assert_eq!(filter(condition).unwrap(), expected, "{condition}");
        }
        let short = query("select*where registrationId='a'").filter(&INDIVIDUALS).unwrap();
        assert_eq!(short, with_id(IdFilter::Is("a".into())));
    }

    /// DPS-SERVICE-25: the word that is wrong is named.
    #[test]
    fn a_where_that_cannot_be_run_is_refused_at_its_word() {
        for (condition, told) in [
            ("", "registrationId or enrollmentGroupId, provisioningStatus, attestation.type"),
            ("registrationID", "= or LIKE is expected where the text ends"),
            ("registrationId =", "an id in quotes is expected where the text ends"),
            ("registrationId = press-7", "an id in quotes is expected where \"press-7\" stands"),
            ("registrationId = 'press-7", "where \"'press-7\" stands"),
            ("registrationId != 'a'", "= or LIKE is expected where \"!=\" stands"),
            ("registrationId LIKE '%7'", "where \"%7\" stands"),
            ("registrationId LIKE 'a_%'", "STARTS_WITH"),
            ("registrationId LIKE 'a'", "one %"),
            ("starts_with(deviceId, 'a')", "registrationId is expected where \"deviceId\" stands"),
            ("enrollmentGroupId = 'a'", "where \"enrollmentGroupId\" stands"),
            ("registratonId = 'a'", "where \"registratonId\" stands"),
            ("tags.line = 7", "where \"tags.line\" stands"),
            ("NOT registrationId = 'a'", "where \"NOT\" stands"),
            ("(registrationId = 'a')", "where \"(\" stands"),
            ("provisioningStatus = 'off'", "'enabled' or 'disabled' is expected where \"off\" stands"),
            ("provisioningStatus = disabled", "where \"disabled\" stands"),
            ("attestation.type = 'x.509'", "where \"x.509\" stands"),
            (
                "allocationPolicy = 'weighted'",
                "'hashed', 'static', 'geoLatency' or 'custom' is expected where \"weighted\" stands",
            ),
            ("iotHubs = 'a b'", "where \"a b\" stands"),
            ("createdDateTimeUtc = 'yesterday'", "a date such as"),
            ("createdDateTimeUtc = '2026-11-20'", "a date such as"),
            ("createdDateTimeUtc > '9999-12-31T99:00:00Z'", "a date such as"),
            ("createdDateTimeUtc LIKE '2026%'", "=, <, <=, > or >= is expected where \"LIKE\" stands"),
            ("createdDateTimeUtc <> '2026-11-20T08:00:00Z'", "where \"<>\" stands"),
            (
                "createdDateTimeUtc > '2026-11-20T08:00:00Z' AND createdDateTimeUtc = '2026-11-20T09:00:00Z'",
                "a second condition on createdDateTimeUtc",
            ),
            ("registrationId = 'a' OR registrationId = 'b'", "AND is expected where \"OR\" stands"),
            ("registrationId = 'a' AND", "is expected where the text ends"),
            ("registrationId = 'a' AND registrationId = 'b'", "a second condition on registrationId"),
            ("registrationId = 'a' ORDER BY registrationId", "where \"ORDER\" stands"),
            ("registrationId = 'a';", "AND is expected where \";\" stands"),
            ("ä = 'a'", "where \"ä\" stands"),
        ] {
            let why = filter(condition).expect_err(condition).to_string();
            assert!(why.contains(told), "{condition}: {why}");
        }
        for (text, told) in [
            ("where", "SELECT is expected where \"where\" stands"),
            ("SELECT registrationId FROM enrollments WHERE registrationId = 'a'", "* is expected"),
            (
                "SELECT * FORM enrollments WHERE registrationId = 'a'",
                "FROM is expected where \"FORM\" stands",
            ),
            (
                "SELECT * FROM enrollments e WHERE registrationId = 'a'",
                "WHERE is expected where \"e\" stands",
            ),
            ("{'query': \"SELECT * WHERE registrationId = 'a'\"}", "SELECT is expected where \"{\" stands"),
            ("SELECT * FROM 'x' where", "the name of a table is expected where \"x\" stands"),
        ] {
            let why = query(text).filter(&INDIVIDUALS).expect_err(text).to_string();
            assert!(why.contains(told), "{text}: {why}");
        }
        let long = filter(&"x".repeat(10_000)).unwrap_err().to_string();
        assert!(long.len() < 400, "{long}");
    }

    /// DPS-SERVICE-25: the word is found wherever a client may hide it.
    #[test]
    fn a_body_that_is_no_query_is_refused() {
        for body in ["[]", "7", r#""SELECT *""#, r#"{"query": 7}"#, r#"{"query": ["SELECT *"]}"#] {
            let refused = Query::read(body.as_bytes());
            assert!(matches!(refused, Err(ServiceFault::Query(BadQuery::NoText))), "{body}");
        }
        for body in ["{", "SELECT * WHERE registrationId = 'a'", "\u{fffd}"] {
            assert!(matches!(Query::read(body.as_bytes()), Err(ServiceFault::NotJson(_))), "{body}");
        }
        let other_case = Query::read(br#"{"Query": "SELECT * WHERE registrationId = 'a'"}"#).unwrap();
        assert_ne!(other_case.filter(&INDIVIDUALS).unwrap(), EntryFilter::default());
        assert!(query("SELECT *").of_records().is_ok());
        let refused = query("SELECT * WHERE a").of_records().unwrap_err().to_string();
        assert!(refused.contains("\"WHERE\""), "{refused}");
    }
}
