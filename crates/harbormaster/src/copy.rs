//! `harbormaster copy`: a store in SQLite becomes one in PostgreSQL. Spec: DPS-CLI-40 to DPS-CLI-42.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use dps_store::{
    DataDir, FillError, KeyId, PostgresOpenError, PostgresStore, Sealed, Sealer, SourceError, SqliteSource,
    TableCount,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::configuration::{self, Postgres, Store};
use crate::exit::{self, Failure};
use crate::serve::opened_store;
use crate::serve::place::Place;
use crate::service;
use crate::store_place::{self, DEV_SEALING_KEY, STORE_FILE};

#[derive(Args)]
#[command(
    after_help = "No server may use what is copied, and nothing in it is changed: it stays the way back. The database must have no rows of a \
                        store yet; the tables are made. All is copied or nothing: until it is there whole, nodes that are started meanwhile \
                        end as if there were no database, and a supervisor starts them again. docs/scale.md has the steps."
)]
pub(crate) struct Options {
    #[command(flatten)]
    source: SourceOptions,
    /// The sealing key of what is copied, raw or as Base64 [default: sealing.key of --from-data-dir, where there is one, else that of --config].
    #[arg(long, value_name = "FILE")]
    from_sealing_key_file: Option<PathBuf>,
    /// The configuration of the nodes, which names the database by `kind = "postgresql"` and their sealing key; no more than `[store]` is looked at.
    #[arg(long = "config", value_name = "FILE", env = "HARBORMASTER_CONFIG")]
    configuration: PathBuf,
    /// How to print what was copied.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct SourceOptions {
    /// A backup, or the file store.db of a data directory.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The directory that holds the store: that of `dev --data-dir`, or store.data_dir of a configuration.
    #[arg(long, value_name = "DIR")]
    from_data_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

pub(crate) fn run(options: Options) -> Result<ExitCode, Failure> {
    let Options { source, from_sealing_key_file, configuration, output } = options;
    let place = Place::of(&configuration);
    let Store { place: named, sealing_key } =
        configuration::read_store(&configuration).map_err(Failure::usage)?;
    let postgres = match named {
        configuration::Place::Postgres(postgres) => postgres,
        configuration::Place::DataDir(data_dir) => {
            let advice = "write kind = \"postgresql\", and the database by url_file";
            return Err(place.fault(
                data_dir.at,
                "store.data_dir",
                "a store is copied to postgresql alone",
                advice,
            ));
        }
    };
    let options = postgres.options();
    let target = Target { postgres: &postgres, place: &place, key: sealing_key.value.id() };
    let runtime = service::runtime()?;
    // Before a large store is read for nothing.
    runtime.block_on(PostgresStore::versions(&options)).map_err(|why| target.refused(why))?;

    let (file, lock) = source.locked()?;
    let sealer = match source.key_file(from_sealing_key_file) {
        Some((option, key)) => Sealer::new(&store_place::sealing_key(option, &key).map_err(Failure::usage)?),
        None => Sealer::new(&sealing_key.value),
    };
    let source = judged(&file, sealer)?;
    let source_keys = source.contents().sealing_keys.clone();
    let bar = bar(source.rows());
    let told = |rows| bar.set_position(rows);
    let filled =
        runtime.block_on(PostgresStore::fill(&options, Sealer::new(&sealing_key.value), source, &told));
    bar.finish_and_clear();
    drop(lock);
    match filled {
        Ok(counts) => {
            target.print(&counts, &source_keys, output)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(FillError::Differs(counts)) => {
            print_counts(&counts, output)?;
            let why = anyhow!(FillError::Differs(counts)).context("nothing was copied");
            Err(Failure { code: exit::DIFFERS, why })
        }
        Err(why) => Err(target.not_filled(why)),
    }
}

impl SourceOptions {
    /// The file that is copied, and the lock of its data directory, where it lies in one. Spec: DPS-STORE-41.
    fn locked(&self) -> Result<(PathBuf, Option<DataDir>), Failure> {
        let (file, data_dir) = match (&self.from_data_dir, &self.from) {
            (Some(data_dir), _) => (data_dir.join(STORE_FILE), Some(data_dir.clone())),
            (None, Some(file)) => (file.clone(), store_place::data_dir_of(file)),
            (None, None) => return Err(Failure::usage(anyhow!("say what is to be copied: --from FILE"))),
        };
        if !file.is_file() {
            return Err(not_copied(SourceError::NoStore(file)));
        }
        let lock = data_dir.map(|data_dir| store_place::lock(&data_dir)).transpose()?;
        Ok((file, lock))
    }

    /// The file of its sealing key, with the option that names it, unless it is that of the configuration.
    fn key_file(&self, named: Option<PathBuf>) -> Option<(&'static str, PathBuf)> {
        let of_dev = self.from_data_dir.as_ref().map(|data_dir| data_dir.join(DEV_SEALING_KEY));
        let of_dev = of_dev.filter(|key| key.exists()).map(|key| ("--from-data-dir", key));
        named.map(|key| ("--from-sealing-key-file", key)).or(of_dev)
    }
}

/// Reads the store whole, which takes its time.
fn judged(file: &Path, sealer: Sealer) -> Result<SqliteSource, Failure> {
    let bar = ProgressBar::new_spinner().with_message(format!("reading {}", file.display()));
    bar.enable_steady_tick(Duration::from_millis(100));
    let source = SqliteSource::open(file, sealer);
    bar.finish_and_clear();
    source.map_err(not_copied)
}

fn bar(rows: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent}% {human_pos} rows {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Spec: DPS-CLI-41.
fn not_copied(why: SourceError) -> Failure {
    let code = match &why {
        SourceError::NoStore(_) => exit::NOT_FOUND,
        SourceError::Older { .. } | SourceError::Unknown { .. } | SourceError::Sealed(_) => exit::USAGE,
        SourceError::Unsound(_) | SourceError::Unread(_) => exit::FAILED,
    };
    let why = match why {
        older @ SourceError::Older { .. } => {
            anyhow!("{older}: run `migrate` on it first, or of a backup on what `restore` makes of it")
        }
        sealed @ SourceError::Sealed(Sealed::ByAnother { .. }) => {
            anyhow!("{sealed}, and name its file by --from-sealing-key-file")
        }
        why => why.into(),
    };
    Failure { code, why }
}

/// Where it is copied to.
struct Target<'t> {
    postgres: &'t Postgres,
    place: &'t Place,
    /// What the nodes seal with.
    key: KeyId,
}

impl Target<'_> {
    fn refused(&self, why: PostgresOpenError) -> Failure {
        let is_for_now = matches!(why, PostgresOpenError::Unreachable(_) | PostgresOpenError::Busy);
        let refused = opened_store::refused(why, self.postgres, self.place);
        if is_for_now { Failure { code: exit::UNAVAILABLE, ..refused } } else { refused }
    }

    fn not_filled(&self, why: FillError) -> Failure {
        let (code, advice) = match why {
            FillError::Open(why) => return self.refused(why),
            FillError::NotEmpty { .. } => {
                (exit::EXISTS, "name another by store.schema, or drop it if nothing in it is needed")
            }
            FillError::Busy => (exit::UNAVAILABLE, "stop the nodes, or let the other copy end"),
            FillError::Unconfirmed(_) => {
                (exit::UNAVAILABLE, "copy again, which says so if all of it is there")
            }
            FillError::Source(_) | FillError::Database(_) | FillError::Differs(_) => {
                (exit::FAILED, "nothing was copied")
            }
        };
        Failure { code, why: anyhow!("{why}: {advice}") }
    }

    fn print(&self, counts: &[TableCount], source_keys: &[KeyId], output: Output) -> Result<(), Failure> {
        if output == Output::Json {
            return print_counts(counts, output);
        }
        writeln!(std::io::stdout(), "copied to the schema {}", self.postgres.options().schema.as_str())?;
        print_counts(counts, output)?;
        let is_same = source_keys.iter().all(|key| *key == self.key);
        let keys: Vec<_> = source_keys.iter().map(ToString::to_string).collect();
        let sealed = match is_same {
            true => format!("secrets are sealed with key {}, as they were", self.key),
            false => {
                format!("secrets were sealed with key {}, and are with key {}", keys.join(", "), self.key)
            }
        };
        Ok(writeln!(std::io::stdout(), "{sealed}")?)
    }
}

/// The rows of each table, in both. Spec: DPS-CLI-42.
fn print_counts(counts: &[TableCount], output: Output) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if output == Output::Json {
        let table = |TableCount { table, source, target }: &TableCount| json!({"table": table, "source": source, "target": target});
        let tables: Vec<_> = counts.iter().map(table).collect();
        return Ok(writeln!(out, "{}", json!({"tables": tables}))?);
    }
    writeln!(out, "{:26}{:>12}{:>12}", "", "SQLite", "PostgreSQL")?;
    for TableCount { table, source, target } in counts {
        writeln!(out, "{table:26}{source:>12}{target:>12}")?;
    }
    Ok(())
}
