//! The configuration of `serve`: read whole and judged whole before anything is begun. Spec: DPS-SERVE-2 to DPS-SERVE-9
//! (docs/spec/serve.md).
//!
//! [`read`] turns a file into a [`Configuration`] or into everything that is wrong with it. The keys stand in one table
//! ([`key`]), from which `config show` ([`mod@show`]) and the test of docs/configuration.md are made as well.

mod broker;
mod chain_rules;
mod declared;
mod document;
mod fault;
mod hub;
mod instances;
mod key;
mod limits;
mod listen;
mod log;
mod names;
mod outbound;
#[cfg(test)]
mod reference;
mod reload;
mod secret;
mod show;
mod store;
#[cfg(test)]
mod tests;
mod tls;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use dps_server::limits::Limits;
use toml::de::DeTable;

pub(crate) use broker::Broker;
pub(crate) use declared::{Declared, DeclaredCaCertificate, DeclaredInstance, read as read_declared};
pub(crate) use fault::{Fault, Located, Position};
pub(crate) use instances::Instance;
pub(crate) use listen::Listen;
pub(crate) use reload::Reload;
pub(crate) use show::{show, show_defaults};
pub(crate) use store::{Place, Postgres, Store, sealing_key};
pub(crate) use tls::Certificate;

use document::{Context, Table};
use fault::Lines;
use key::Section;
use log::Log;
use names::Names;
use outbound::Outbound;

/// Most bytes of a configuration: thousands of instances.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// All that `serve` is told.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) listen: Listen,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) outbound: Outbound,
    pub(crate) log: Log,
    pub(crate) instances: Vec<Instance>,
    /// What may be meant and is probably not.
    pub(crate) warnings: Vec<Fault>,
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

/// Reads and judges a file, the files it names, and the environment of this process.
pub(crate) fn read(file: &Path) -> Result<Configuration, Faults> {
    let environment = |name: &str| std::env::var(name).ok();
    text_of(file, ("--config", "harbormaster config show --defaults prints one"))
        .and_then(|text| parse(file, &text, &environment))
}

/// The store of a configuration, whatever may be wrong with the rest. Spec: DPS-CLI-34.
pub(crate) fn read_store(file: &Path) -> Result<Store, Faults> {
    read_of_store(file, Store::read)
}

/// Where the store of a configuration lies; its sealing key is not looked for, which may be at hand for the service alone.
/// Spec: DPS-CLI-34.
pub(crate) fn read_data_dir(file: &Path) -> Result<PathBuf, Faults> {
    read_of_store(file, store::read_sqlite_dir).map(|data_dir| data_dir.value)
}

/// The database of a configuration, where its store is one; its sealing key is not looked for either. Spec: DPS-CLI-36.
pub(crate) fn read_postgres(file: &Path) -> Result<Option<Postgres>, Faults> {
    read_of_store(file, |table| {
        if store::is_postgresql(table) { Postgres::read(table).map(Some) } else { Some(None) }
    })
}

fn read_of_store<T>(file: &Path, read: impl FnOnce(&Table<'_>) -> Option<T>) -> Result<T, Faults> {
    let environment = |name: &str| std::env::var(name).ok();
    let text = text_of(file, ("--config", "harbormaster config show --defaults prints one"))?;
    let (read, _) = judged(file, &text, &environment, &key::sections(), |root| read(&root.table("store")))?;
    Ok(read)
}

/// The whole of a file; told with the option that names it, and with what prints such a file.
fn text_of(file: &Path, (option, prints): (&str, &str)) -> Result<String, Faults> {
    let refuse = |at, key: &str, why: String, advice: &str| {
        let (file, key, advice) = (file.display().to_string(), key.to_owned(), advice.to_owned());
        Faults(vec![Fault { file, at, key, why, advice, grave: false }])
    };
    let bytes = bytes_of(file).map_err(|why| {
        let advice = format!("name a TOML file; {prints}");
        refuse(Position::FILE, option, format!("the file cannot be read: {why}"), &advice)
    })?;
    String::from_utf8(bytes).map_err(|why| {
        let good = why.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&why.as_bytes()[..good]);
        let at = Lines::of(&text).position(&(good..good));
        refuse(at, "TOML", "what stands here is not UTF-8".to_owned(), "save the file as UTF-8")
    })
}

fn bytes_of(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has over {BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn parse(
    file: &Path,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Configuration, Faults> {
    let (configuration, warnings) = judged(file, text, environment, &key::sections(), judge)?;
    Ok(Configuration { warnings, ..configuration })
}

/// What `judge` makes of a document with these tables, and what it warns of; else all that is wrong with it.
fn judged<T>(
    file: &Path,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    sections: &[Section],
    judge: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Result<(T, Vec<Fault>), Faults> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let context = Context {
        file,
        directory: absolute.parent().map(Path::to_owned).unwrap_or_default(),
        lines: Lines::of(text),
        sections,
        environment,
        faults: RefCell::default(),
        warnings: RefCell::default(),
    };
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        let span = error.span().unwrap_or_default();
        let advice = if is_bare_text(context.lines.line(&span)) {
            "write a text in quotation marks"
        } else {
            "see https://toml.io for how it is written"
        };
        context.fault(context.lines.position(&span), "TOML", error.message(), advice);
    }
    // What cannot be read as TOML would be missed again under every key that it hides.
    let judged = if syntax.is_empty() {
        judge(&Table::new(&context, "", document.get_ref(), Position { line: 1, column: 1 }))
    } else {
        None
    };
    let mut faults = context.faults.into_inner();
    let mut warnings = context.warnings.into_inner();
    faults.sort_by_key(|fault| fault.at);
    warnings.sort_by_key(|warning| warning.at);
    match judged {
        Some(judged) if faults.is_empty() => Ok((judged, warnings)),
        _ => Err(Faults(faults)),
    }
}

/// Whether the line gives a key something that is neither a number nor begins as another value does.
fn is_bare_text(line: &str) -> bool {
    let Some((_, value)) = line.split_once('=') else { return false };
    let value = value.split('#').next().unwrap_or_default().trim();
    let is_number = value.replace('_', "").parse::<f64>().is_ok();
    !(value.is_empty()
        || is_number
        || value.starts_with(['"', '\'', '[', '{'])
        || ["true", "false"].contains(&value))
}

/// Reads every key, whatever is wrong with the others.
fn judge(root: &Table<'_>) -> Option<Configuration> {
    let context = root.context;
    let listen_table = root.table("listen");
    let listen = Listen::read(&listen_table);
    let certificate_tables = root.table("tls").tables("certificate");
    if certificate_tables.is_empty() {
        let advice = "add a [[tls.certificate]] with chain_file and key_file";
        context.fault(root.at(), "tls.certificate", "there is no certificate", advice);
    }
    let certificates: Vec<_> = certificate_tables.iter().filter_map(Certificate::read).collect();
    let store = Store::read(&root.table("store"));
    if let Some(store) = &store {
        store.check_admin_token(&listen_table);
    }
    let limits = limits::read(&root.table("limits"));
    let outbound = Outbound::read(&root.table("outbound"));
    let log = Log::read(&root.table("log"));
    let instance_tables = root.tables("instance");
    let mut names = Names::default();
    let instances: Vec<_> = instance_tables.iter().map(|table| Instance::read(table, &mut names)).collect();
    names.check(context, &certificates, !listen.https.is_empty());
    Some(Configuration {
        listen,
        certificates,
        store: store?,
        limits,
        outbound,
        log,
        instances: instances.into_iter().collect::<Option<_>>()?,
        warnings: Vec::new(),
    })
}
