//! What the verbs do, for individual enrollments and groups alike. Spec: DPS-CLI-8 to DPS-CLI-10.

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use dps_client::service::{EntryName, IfMatch, Listing, ServiceClient, ServiceError};
use dps_server::enrollment_json::{self, UnknownMember};
use serde_json::json;
use serde_json::value::RawValue;

use super::attestation::AttestationChange;
use super::document::EntryDocument;
use super::failure::{self, Subject};
use super::settings::SettingsOptions;
use super::table::{self, Column, Keys, Table, printable};
use super::{DeleteCondition, Output, UpdateCondition, list};
use crate::exit::Failure;
use crate::file_option;
use crate::likeness;

/// What tells the two kinds of entries apart.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Individual,
    Group,
}

/// What create and update set.
pub(super) struct Changes {
    pub(super) kind: Kind,
    /// The id of the command line.
    pub(super) name: Option<EntryName>,
    /// The whole body to begin with.
    pub(super) file: Option<PathBuf>,
    pub(super) attestation: Option<AttestationChange>,
    pub(super) settings: SettingsOptions,
    /// Members that only one kind has.
    pub(super) own: Vec<(&'static str, String)>,
}

impl Kind {
    /// The command.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Individual => "enrollment",
            Self::Group => "enrollment-group",
        }
    }

    /// The member that names the entry.
    pub(super) fn id_member(self) -> &'static str {
        match self {
            Self::Individual => "registrationId",
            Self::Group => "enrollmentGroupId",
        }
    }

    pub(super) fn listing(self) -> (Listing, &'static [Column]) {
        match self {
            Self::Individual => (Listing::Individuals, &table::INDIVIDUALS),
            Self::Group => (Listing::Groups, &table::GROUPS),
        }
    }

    pub(super) fn parse_name(self, id: &str) -> anyhow::Result<EntryName> {
        Ok(match self {
            Self::Individual => EntryName::Individual(id.parse()?),
            Self::Group => EntryName::Group(id.parse()?),
        })
    }

    pub(super) fn subject(self, id: &str) -> Subject {
        Subject { noun: self.noun(), id: id.to_owned(), list: format!("{} list", self.noun()) }
    }
}

/// Spec: DPS-CLI-8: nothing that exists is changed.
pub(super) async fn create(
    client: &mut ServiceClient,
    changes: Changes,
    output: Output,
) -> Result<(), Failure> {
    let (name, body) = changes.new_entry().map_err(Failure::usage)?;
    let created = client.put(&name, body, None).await.map_err(changes.failure(&name))?;
    print(&created, output, Keys::Shown)
}

/// Prints an entry.
pub(super) async fn show(
    client: &mut ServiceClient,
    kind: Kind,
    name: EntryName,
    keys: bool,
    output: Output,
) -> Result<(), Failure> {
    let failure = |why: ServiceError| failure::of(&why, &kind.subject(name.id()));
    let found = client.get(&name.clone().into()).await.map_err(failure)?;
    if !keys {
        return print(&found, output, Keys::Hidden);
    }
    let mut document = EntryDocument::parse(&found)?;
    if document.get("attestation").is_some_and(|attestation| attestation["type"] == "symmetricKey") {
        document.set_raw("attestation", client.attestation_mechanism(&name).await.map_err(failure)?);
    }
    let found: Box<RawValue> = serde_json::value::RawValue::from_string(document.to_json()?)?;
    print(&found, output, Keys::Shown)
}

/// Prints all entries of a kind.
pub(super) async fn show_all(
    client: &mut ServiceClient,
    kind: Kind,
    limit: Option<NonZeroUsize>,
    output: Output,
) -> Result<(), Failure> {
    let (listing, columns) = kind.listing();
    list(client, listing, limit, output, Table::new(columns), &kind.subject("")).await
}

/// Spec: DPS-CLI-9: only what was given changes, and only if nobody else changed the entry meanwhile.
pub(super) async fn update(
    client: &mut ServiceClient,
    changes: Changes,
    condition: UpdateCondition,
    output: Output,
) -> Result<(), Failure> {
    if changes.is_empty() {
        let noun = changes.kind.noun();
        return Err(Failure::usage(anyhow!(
            "nothing to change: `harbormaster {noun} update --help` lists what can be"
        )));
    }
    let (name, given) = changes.begin().map_err(Failure::usage)?;
    let failure = changes.failure(&name);
    let etag_of = |document: &EntryDocument| document.text("etag");
    let given_etag = given.as_ref().and_then(etag_of);
    let (mut document, read_etag) = match given {
        // A body that knows its etag was read from the service and edited.
        Some(document) if given_etag.is_some() || condition.etag.is_some() || condition.force => {
            (document, given_etag)
        }
        given => {
            let found = client.get(&name.clone().into()).await.map_err(&failure)?;
            let found = EntryDocument::parse(&found)?;
            let etag = etag_of(&found);
            (given.unwrap_or(found), etag)
        }
    };
    if changes.attestation.as_ref().is_some_and(|change| change.needs_the_other_key_of(&document)) {
        document.set_raw("attestation", client.attestation_mechanism(&name).await.map_err(&failure)?);
    }
    changes.apply(&mut document).map_err(Failure::usage)?;
    let if_match = match (condition.etag, condition.force) {
        (Some(etag), _) => IfMatch::ETag(etag),
        (None, true) => IfMatch::Any,
        (None, false) => {
            IfMatch::ETag(read_etag.context("the service's answer has no etag; give --etag or --force")?)
        }
    };
    let body = document.writable().to_json()?;
    let updated = client.put(&name, body, Some(&if_match)).await.map_err(&failure)?;
    print(&updated, output, Keys::Hidden)
}

/// Spec: DPS-CLI-10.
pub(super) async fn delete(
    client: &mut ServiceClient,
    kind: Kind,
    name: EntryName,
    condition: DeleteCondition,
) -> Result<(), Failure> {
    let subject = kind.subject(name.id());
    let deleted = client.delete(&name.into(), condition.if_match().as_ref()).await;
    deleted.map_err(|why| failure::of(&why, &subject))
}

impl Changes {
    /// The body of an entry that is to be created.
    fn new_entry(&self) -> anyhow::Result<(EntryName, String)> {
        let (name, given) = self.begin()?;
        let mut document = given.unwrap_or_default();
        document.set(self.kind.id_member(), &json!(name.id()))?;
        if document.get("attestation").is_none() && self.attestation.is_none() {
            AttestationChange::SymmetricKey { primary: None, secondary: None }.apply(&mut document)?;
        }
        self.apply(&mut document)?;
        Ok((name, document.writable().to_json()?))
    }

    fn is_empty(&self) -> bool {
        let Self { kind: _, name: _, file, attestation, settings, own } = self;
        file.is_none() && attestation.is_none() && settings.is_empty() && own.is_empty()
    }

    /// Which entry is meant, and the body of `--file`.
    fn begin(&self) -> anyhow::Result<(EntryName, Option<EntryDocument>)> {
        let document = match &self.file {
            Some(file) => Some(self.read(file)?),
            None => None,
        };
        let member = self.kind.id_member();
        let in_file = document.as_ref().and_then(|document| document.text(member));
        let in_file = in_file.map(|id| self.kind.parse_name(&id).context(member)).transpose()?;
        match (self.name.clone(), in_file) {
            (Some(name), Some(in_file)) if name != in_file => {
                bail!("the command is about {name}, but {member} of --file is {in_file}")
            }
            (Some(name), _) | (None, Some(name)) => Ok((name, document)),
            (None, None) => bail!("name the {}: give its id, or --file with {member}", self.kind.noun()),
        }
    }

    fn read(&self, file: &Path) -> anyhow::Result<EntryDocument> {
        let json = file_option::json_object("--file", file)?;
        warn_of_unknown_members(&json)?;
        Ok(EntryDocument::parse(&json)?)
    }

    fn apply(&self, document: &mut EntryDocument) -> anyhow::Result<()> {
        for (member, text) in &self.own {
            document.set(member, &json!(text))?;
        }
        if let Some(attestation) = &self.attestation {
            attestation.apply(document)?;
        }
        self.settings.apply(document)
    }

    fn failure(&self, name: &EntryName) -> impl Fn(ServiceError) -> Failure + use<> {
        let subject = self.kind.subject(name.id());
        move |why| failure::of(&why, &subject)
    }
}

/// The service may be newer than this list, so that such a member is sent all the same.
fn warn_of_unknown_members(json: &RawValue) -> anyhow::Result<()> {
    let mut err = io::stderr().lock();
    for UnknownMember { parent, name, known } in
        enrollment_json::unknown_members(&serde_json::from_str(json.get())?)
    {
        let advice = match likeness::nearest(&name, &known) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "is it spelt right?".to_owned(),
        };
        let name = printable(&name);
        writeln!(
            err,
            "harbormaster: warning: --file: {parent}{name}: no such member is known; {advice} It is sent as it is"
        )?;
    }
    Ok(())
}

fn print(found: &RawValue, output: Output, keys: Keys) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match output {
        Output::Json => writeln!(out, "{found}")?,
        Output::Table => out.write_all(table::entry(&serde_json::from_str(found.get())?, keys).as_bytes())?,
    }
    Ok(out.flush()?)
}
