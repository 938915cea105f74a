//! `harbormaster migrate`: the tables of a store are brought to the newest version, and nothing is served. Spec: DPS-CLI-36.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use dps_store::{OpenError, PostgresStore, SqliteStore, Versions};

use crate::configuration::Postgres;
use crate::exit::{self, Failure};
use crate::serve::opened_store;
use crate::serve::place::Place;
use crate::service;
use crate::store_place::{self, PlaceOptions, STORE_FILE};

#[derive(Args)]
#[command(
    after_help = "`serve` and `dev` do the same at their start; this is for doing it at a time of your own. A newer version cannot be taken \
                        back: make a backup first. With --check nothing is changed, a server may be running, and the exit code is 0 where \
                        there is nothing to do, 1 where there is, 69 where that cannot be told."
)]
pub(crate) struct Options {
    #[command(flatten)]
    place: PlaceOptions,
    /// Only say whether something is to be done.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: Options) -> Result<ExitCode, Failure> {
    let Options { place, check } = options;
    if let Some((file, postgres)) = place.postgres()? {
        return service::runtime()?.block_on(run_on_postgres(&file, &postgres, check));
    }
    let data_dir = place.data_dir()?;
    let mut out = std::io::stdout().lock();
    if check {
        let store = data_dir.join(STORE_FILE);
        let versions = SqliteStore::versions(&store)
            .map_err(|why| Failure { code: exit::UNAVAILABLE, why: at(&store)(why) })?;
        writeln!(out, "{}: {}", store.display(), to_be_done(versions))?;
        let is_done = versions.found >= versions.newest;
        return Ok(if is_done { ExitCode::SUCCESS } else { exit::FAILED.into() });
    }
    let data_dir = store_place::lock(&data_dir)?;
    let store = data_dir.file(STORE_FILE)?;
    let versions = SqliteStore::migrate(&store).map_err(at(&store))?;
    writeln!(out, "{}: {}", store.display(), was_done(versions))?;
    Ok(ExitCode::SUCCESS)
}

/// Nodes may go on meanwhile, which is what its migrations are made for. Spec: DPS-STORE-16.
async fn run_on_postgres(file: &Path, postgres: &Postgres, check: bool) -> Result<ExitCode, Failure> {
    let options = postgres.options();
    let name = format!("schema {}", options.schema.as_str());
    let refused = |why| opened_store::refused(why, postgres, &Place::of(file));
    if check {
        let versions = PostgresStore::versions(&options).await.map_err(|why| {
            let refused = refused(why);
            Failure { code: exit::UNAVAILABLE, ..refused }
        })?;
        writeln!(std::io::stdout(), "{name}: {}", to_be_done(versions))?;
        let is_done = versions.found >= versions.newest;
        return Ok(if is_done { ExitCode::SUCCESS } else { exit::FAILED.into() });
    }
    let versions = PostgresStore::migrate(&options).await.map_err(refused)?;
    writeln!(std::io::stdout(), "{name}: {}", was_done(versions))?;
    Ok(ExitCode::SUCCESS)
}

fn at(store: &Path) -> impl Fn(OpenError) -> anyhow::Error {
    move |why| anyhow!(why).context(store.display().to_string())
}

fn to_be_done(versions: Versions) -> String {
    match versions {
        Versions { found: 0, newest } => {
            format!("there is no store yet: `migrate` makes one of version {newest}")
        }
        Versions { found, newest } if found == newest => format!("version {found}, which is the newest"),
        Versions { found, newest } if found > newest => {
            format!("version {found}, of a later Harbormaster, which this one (version {newest}) works with")
        }
        Versions { found, newest } => format!("version {found}: `migrate` brings it to version {newest}"),
    }
}

fn was_done(versions: Versions) -> String {
    match versions {
        Versions { found: 0, newest } => format!("made, of version {newest}"),
        versions if versions.found >= versions.newest => {
            format!("{}: nothing was to be done", to_be_done(versions))
        }
        Versions { found, newest } => format!("brought from version {found} to version {newest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-CLI-36
    #[test]
    fn versions_are_told_from_which_to_which() {
        let versions = |found| Versions { found, newest: 11 };
        assert_eq!(was_done(versions(9)), "brought from version 9 to version 11");
        assert_eq!(to_be_done(versions(9)), "version 9: `migrate` brings it to version 11");
        assert!(was_done(versions(0)).starts_with("made"));
        assert_eq!(was_done(versions(11)), "version 11, which is the newest: nothing was to be done");
        assert_eq!(
            was_done(versions(12)),
            "version 12, of a later Harbormaster, which this one (version 11) works with: nothing was to be done"
        );
    }
}
