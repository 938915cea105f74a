//! A registry for tests in other languages, and for the benchmark. Its first line on standard output says where it is; it ends when its
//! standard input does, and its last line says what it was asked.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use hub_registry::{Authority, HubRegistry, Options};
use serde_json::json;

/// The registry of an Azure IoT Hub as far as provisioning asks it, for tests.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// A name for its certificate, beside the address; the first is that of the connection string.
    #[arg(long)]
    host: Vec<String>,
    /// Where to write the certificate of its CA.
    #[arg(long)]
    ca_file: PathBuf,
    /// Most devices.
    #[arg(long)]
    devices_max: Option<usize>,
    /// How many milliseconds it takes over each request.
    #[arg(long, default_value_t = 0)]
    answer_after_ms: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { bind, host, ca_file, devices_max, answer_after_ms } = Arguments::parse();
    let authority = Authority::new()?;
    authority.write(&ca_file)?;
    let answer_after = Duration::from_millis(answer_after_ms);
    let options = Options { bind, names: host, devices_max, answer_after };
    let registry = HubRegistry::start(&authority, options).await?;
    let contract = json!({
        "host": registry.host(),
        "port": registry.address().port(),
        "connectionString": registry.connection_string(),
        "caFile": ca_file,
    });
    writeln!(std::io::stdout(), "{contract}")?;
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()))
        .await??;
    let devices = registry.with(|registry| registry.ids().len());
    writeln!(std::io::stdout(), "{}", json!({"devices": devices, "requests": registry.request_counts()}))?;
    Ok(())
}
