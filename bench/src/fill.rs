//! A data directory whose store holds many entries, written through the store's own port: sealed, durable and complete.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::anyhow;
use clap::Args;
use dps_core::enrollment::{
    Attestation, EnrollmentGroup, EntrySettings, GroupAttestation, IndividualEnrollment, ProvisioningStatus,
};
use dps_core::ports::{Condition, Store};
use dps_proto::ids::{ETag, IdScope, InstanceSecret};
use dps_store::{DataDir, Sealer, SealingKey, SqliteOptions, SqliteStore};
use jiff::Timestamp;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::fleet;

/// Writes that wait together and so share a commit.
const AT_ONCE: u64 = 1_024;

#[derive(Args)]
pub(crate) struct Options {
    /// Created if it is missing.
    #[arg(long)]
    data_dir: PathBuf,
    /// ID scope of the service instance to make.
    #[arg(long)]
    id_scope: IdScope,
    /// Groups without a prefix.
    #[arg(long, default_value_t = 0)]
    open_groups: u64,
    /// Groups with a prefix.
    #[arg(long, default_value_t = 0)]
    prefixed_groups: u64,
    /// Individual enrollments.
    #[arg(long, default_value_t = 0)]
    individual: u64,
}

#[derive(Serialize)]
struct Filled {
    entries: u64,
    seconds: f64,
}

#[derive(Clone, Copy)]
enum Kind {
    OpenGroup,
    PrefixedGroup,
    Individual,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let (_data_dir, store) = open(options.data_dir, &options.id_scope).await?;
    for (kind, count) in [
        (Kind::OpenGroup, options.open_groups),
        (Kind::PrefixedGroup, options.prefixed_groups),
        (Kind::Individual, options.individual),
    ] {
        write_all(&store, &options.id_scope, kind, count).await?;
    }
    Arc::into_inner(store).ok_or_else(|| anyhow!("the store is still in use"))?.close();
    let entries = options.open_groups + options.prefixed_groups + options.individual;
    crate::tell(&Filled { entries, seconds: started.elapsed().as_secs_f64() })
}

/// A data directory, and its store, as durable as the service's own, with the instance in it.
pub(crate) async fn open(data_dir: PathBuf, scope: &IdScope) -> anyhow::Result<(DataDir, Arc<SqliteStore>)> {
    let data_dir = DataDir::open(data_dir)?;
    // As `dev` keeps it, so that `dev` finds everything.
    let fresh_key = random::<32>()?;
    let sealing_key = data_dir.secret_file("sealing.key", || fresh_key.to_vec())?;
    let sealer = Sealer::new(&SealingKey::try_from(&sealing_key[..])?);
    let store = SqliteStore::open(&data_dir.file("store.db")?, SqliteOptions::default(), sealer)?;
    store.open_instance(scope, InstanceSecret::new(random()?)).await?;
    Ok((data_dir, Arc::new(store)))
}

async fn write_all(store: &Arc<SqliteStore>, scope: &IdScope, kind: Kind, count: u64) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..AT_ONCE.min(count) {
        let (store, scope, next) = (Arc::clone(store), scope.clone(), Arc::clone(&next));
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                write(&store, &scope, kind, number).await?;
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(())
}

async fn write(store: &SqliteStore, scope: &IdScope, kind: Kind, number: u64) -> anyhow::Result<()> {
    let prefix = match kind {
        Kind::PrefixedGroup => Some(fleet::group_prefix(number).parse()?),
        Kind::OpenGroup => None,
        Kind::Individual => {
            let enrollment = individual(number)?;
            return Ok(store
                .put_individual_enrollment(scope, enrollment, Condition::IfAbsent.into())
                .await?);
        }
    };
    let group = EnrollmentGroup {
        id: fleet::group_id(number)?,
        registration_id_prefix: prefix,
        attestation: GroupAttestation::SymmetricKey(fleet::group_keys(number)?),
        settings: settings()?,
    };
    Ok(store.put_enrollment_group(scope, group, Condition::IfAbsent.into()).await?)
}

/// The entry of that number, with its keys.
pub(crate) fn individual(number: u64) -> anyhow::Result<IndividualEnrollment> {
    Ok(IndividualEnrollment {
        registration_id: fleet::individual_id(number)?,
        device_id: None,
        attestation: Attestation::SymmetricKey(fleet::individual_keys(number)?),
        settings: settings()?,
    })
}

fn settings() -> anyhow::Result<EntrySettings> {
    let now = Timestamp::now();
    Ok(EntrySettings {
        provisioning_status: ProvisioningStatus::Enabled,
        custom_allocation: None,
            allocation_policy: None,
        hubs: Vec::new(),
        initial_twin: None,
        iot_edge: false,
        reprovision_policy: None,
        other_members: None,
        etag: ETag::generate(random()?, now.as_second()),
        created_at: now,
        updated_at: now,
    })
}

fn random<const BYTES: usize>() -> anyhow::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(bytes)
}
