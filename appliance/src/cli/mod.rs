//! The command line.
//!
//! Exit codes: 0 done; 1 it failed; 2 bad usage or bad configuration, nothing was started; 3 no gateway
//! runs on the control socket.

mod dns;
mod docs;
mod hw;
mod leases;
mod nat64;
mod portmaps;
mod show;
mod sites;
pub mod table;

pub use docs::counters_md;

use crate::config::{self, Config, Name};
use crate::control::client::{Client, ClientError};
use crate::control::introspect::Protocol;
use crate::control::{self, ControlHandle, ControlSpec};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tracing::{error, info, warn};

/// Done.
pub const OK: u8 = 0;
/// It failed.
pub const FAILED: u8 = 1;
/// Bad usage or bad configuration; nothing was started.
pub const BAD_CONFIG: u8 = 2;
/// No gateway runs on the control socket.
pub const NOT_RUNNING: u8 = 3;

/// Where the configuration is if the command line does not say.
pub const DEFAULT_CONFIG: &str = "/etc/causeway/causeway.toml";

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  it failed
  2  bad usage or bad configuration; nothing was started
  3  no gateway runs on the control socket";

/// The gateway of an IPv6-only network: native IPv6 and NAT64 in poll mode.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, after_help = AFTER_HELP, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGINT or SIGTERM; SIGHUP reloads the configuration.
    #[command(after_help = AFTER_HELP)]
    Run(FileArgs),
    /// Check a configuration and print what it comes to, defaults included.
    #[command(after_help = AFTER_HELP)]
    Check {
        #[command(flatten)]
        file: FileArgs,
        /// Print JSON: the resolved configuration, or the errors.
        #[arg(long)]
        json: bool,
    },
    /// Make the running gateway read its configuration again.
    #[command(after_help = AFTER_HELP)]
    Reload {
        #[command(flatten)]
        socket: SocketArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look into the running gateway.
    #[command(subcommand, after_help = AFTER_HELP)]
    Show(Show),
    /// Leases: who had which address, and taking leases back.
    #[command(subcommand, after_help = AFTER_HELP)]
    Leases(leases::Leases),
    /// The resolver: how a name is looked up, and forgetting cached answers.
    #[command(subcommand, after_help = AFTER_HELP)]
    Dns(dns::Dns),
    /// The splicer's sites: which names lead to which servers.
    #[command(subcommand, after_help = AFTER_HELP)]
    Sites(sites::SitesCommand),
    /// The splicer's port maps: which ports lead to which servers.
    #[command(subcommand, name = "portmaps", after_help = AFTER_HELP)]
    PortMaps(portmaps::PortMapsCommand),
    /// What follows from a configuration of NAT64, without a running gateway.
    #[command(subcommand)]
    Nat64(nat64::Nat64),
    /// Hardware profiles and the devices of this machine.
    #[command(subcommand)]
    Hw(hw::Hw),
    /// Print generated documentation.
    #[command(subcommand, hide = true)]
    Docs(Docs),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

#[derive(Debug, Clone, Args)]
struct SocketArgs {
    /// The control socket.
    #[arg(long, value_name = "PATH", conflicts_with = "name")]
    socket: Option<PathBuf>,
    /// The gateway's name: its control socket is /run/causeway/NAME.sock. Neither is needed where only
    /// one gateway runs.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// What is shown.
#[derive(Debug, Subcommand)]
enum Show {
    /// Sessions of the flow table.
    Sessions {
        #[command(flatten)]
        common: ShowArgs,
        /// Only of this protocol.
        #[arg(long, short, value_enum)]
        protocol: Option<Protocol>,
        /// Only with this inside (tenant) address or prefix.
        #[arg(long, value_name = "IPV6", value_parser = address6)]
        source: Option<String>,
        /// Only with this remote address or prefix, as the outside sees it.
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        remote: Option<String>,
        /// Only with this pool address or prefix.
        #[arg(long, value_name = "IPV4", value_parser = address4)]
        outside: Option<String>,
        /// At most so many; 0 shows all.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// NAT64 mappings: which inside address and port is which outside one.
    Mappings {
        #[command(flatten)]
        common: ShowArgs,
        /// Only of this protocol.
        #[arg(long, short, value_enum)]
        protocol: Option<Protocol>,
        /// Only with this inside (tenant) address or prefix.
        #[arg(long, value_name = "IPV6", value_parser = address6)]
        source: Option<String>,
        /// Only with this outside address or prefix.
        #[arg(long, value_name = "IPV4", value_parser = address4)]
        outside: Option<String>,
        /// Only those that are configured.
        #[arg(long = "static")]
        fixed: bool,
        /// At most so many; 0 shows all.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Ports in use on each pool address.
    Pool {
        #[command(flatten)]
        common: ShowArgs,
        /// Only of this protocol.
        #[arg(long, short, value_enum)]
        protocol: Option<Protocol>,
        /// Only with this pool address or prefix.
        #[arg(long, value_name = "IPV4", value_parser = address4)]
        outside: Option<String>,
        /// Only addresses of this tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
    /// Subscribers that are accounted (those of a gateway with limits, tenants or port blocks), and what they
    /// have.
    Subscribers {
        #[command(flatten)]
        common: ShowArgs,
        /// Only those with hosts in this address or prefix.
        #[arg(long, value_name = "IPV6", value_parser = address6)]
        source: Option<String>,
        /// Only the tenant of this name.
        #[arg(long, value_name = "NAME", value_parser = name)]
        tenant: Option<String>,
        /// At most so many; 0 shows as many as one answer holds (65536).
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Neighbours and their link-layer addresses.
    Neighbors {
        #[command(flatten)]
        common: ShowArgs,
        /// Only of this network.
        #[arg(long, value_name = "NAME")]
        network: Option<String>,
    },
    /// Counters and drops by reason.
    Counters {
        #[command(flatten)]
        common: ShowArgs,
        /// Also those that are zero. JSON has them always.
        #[arg(long)]
        all: bool,
        /// Only drops.
        #[arg(long)]
        drops: bool,
        /// A column for each worker.
        #[arg(long)]
        workers: bool,
    },
    /// Leases of DHCPv6.
    Leases {
        #[command(flatten)]
        common: ShowArgs,
        /// Only of this address, or of the prefix that begins with it.
        #[arg(long, value_name = "IPV6", value_parser = address6)]
        address: Option<String>,
        /// Only with this MAC address.
        #[arg(long, value_name = "MAC", value_parser = mac)]
        mac: Option<String>,
        /// Only on this network.
        #[arg(long, value_name = "NAME", value_parser = name)]
        network: Option<String>,
        /// Only those in use.
        #[arg(long)]
        active: bool,
        /// At most so many; 0 shows all.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// How leasing is doing: the disk, the other gateway of a pair, how many leases there are.
    Peer {
        #[command(flatten)]
        common: ShowArgs,
    },
    /// The virtual routers: whether they are active here, and what lowers their priority.
    Vrrp {
        #[command(flatten)]
        common: ShowArgs,
    },
    /// The resolver: its upstreams, its cache, how much it is asked, what clients see.
    Dns {
        #[command(flatten)]
        common: ShowArgs,
    },
    /// The splicer: its listeners, sites, servers and port maps, and what it counts.
    Splicer {
        #[command(flatten)]
        common: ShowArgs,
    },
    /// What router advertisements say on each network.
    Ra {
        #[command(flatten)]
        common: ShowArgs,
    },
    /// Ports.
    Ports {
        #[command(flatten)]
        common: ShowArgs,
    },
    /// The configuration in use.
    Plan {
        #[command(flatten)]
        common: ShowArgs,
    },
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Docs {
    /// The table of counters and drop reasons, in Markdown.
    Counters,
}

fn name(text: &str) -> Result<String, String> {
    Name::new(text).map(|name| name.to_string()).ok_or_else(|| "not a name".to_owned())
}

fn address6(text: &str) -> Result<String, String> {
    control::client::prefix6(text).map(|_| text.to_owned())
}

fn address4(text: &str) -> Result<String, String> {
    control::client::prefix4(text).map(|_| text.to_owned())
}

fn address(text: &str) -> Result<String, String> {
    control::client::prefix(text).map(|_| text.to_owned())
}

/// Brings the gateway up, attaches it to control, and returns when it has stopped.
pub type Launch = fn(&Arc<Config>, &ControlHandle) -> Result<(), Box<dyn Error>>;

/// Runs the program: parses `args` (the first is the program's name), does what they say, and gives the exit
/// code. `launch` is the packet path.
pub fn main(args: impl IntoIterator<Item = OsString>, launch: Launch) -> ExitCode {
    let mut out = Output::default();
    let code = match Cli::try_parse_from(args) {
        Ok(cli) => execute(cli.command, launch, &mut out),
        Err(e) => {
            let text = e.render().to_string();
            if e.use_stderr() {
                out.err.push_str(&text);
                BAD_CONFIG
            } else {
                out.out.push_str(&text);
                OK
            }
        }
    };
    ExitCode::from(out.flush(code))
}

/// What a command prints. Written at the end and in one go.
#[derive(Debug, Default)]
struct Output {
    out: String,
    err: String,
}

impl Output {
    fn line(&mut self, text: impl std::fmt::Display) {
        self.out.push_str(&format!("{text}\n"));
    }

    /// Text of whole lines, also if the last one's end is missing.
    fn text(&mut self, text: &str) {
        self.out.push_str(text);
        if !text.is_empty() && !text.ends_with('\n') {
            self.out.push('\n');
        }
    }

    fn error(&mut self, text: impl std::fmt::Display) {
        self.err.push_str(&format!("causeway: {text}\n"));
    }

    fn json(&mut self, value: &Value) {
        self.line(format_args!("{value:#}"));
    }

    /// Writes everything; the exit code that comes of it. A reader that has seen enough (`head`) is no
    /// failure.
    fn flush(self, code: u8) -> u8 {
        let _ = std::io::stderr().write_all(self.err.as_bytes());
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(self.out.as_bytes()).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => code.max(FAILED),
            _ => code,
        }
    }
}

fn execute(command: Command, launch: Launch, out: &mut Output) -> u8 {
    match command {
        Command::Run(file) => run(&file.config, launch, out),
        Command::Check { file, json } => check(&file.config, json, out),
        Command::Reload { socket, json } => reload(&socket, json, out),
        Command::Show(what) => show(what, out),
        Command::Leases(what) => leases::execute(&what, out),
        Command::Dns(what) => dns::execute(&what, out),
        Command::Sites(what) => sites::execute(&what, out),
        Command::PortMaps(what) => portmaps::execute(&what, out),
        Command::Nat64(what) => nat64::execute(&what, out),
        Command::Hw(what) => hw::execute(&what, out),
        Command::Docs(Docs::Counters) => {
            out.out.push_str(&docs::counters_md());
            OK
        }
    }
}

fn check(file: &Path, as_json: bool, out: &mut Output) -> u8 {
    match Config::load(file) {
        Ok(config) if as_json => {
            out.json(&json!({ "ok": true, "config": config }));
            OK
        }
        Ok(config) => {
            out.out.push_str(&config.render());
            OK
        }
        Err(errors) if as_json => {
            out.json(&json!({ "ok": false, "errors": errors }));
            BAD_CONFIG
        }
        Err(errors) => {
            out.err.push_str(&format!("{errors}\n"));
            BAD_CONFIG
        }
    }
}

fn run(file: &Path, launch: Launch, out: &mut Output) -> u8 {
    let config = match Config::load(file) {
        Ok(config) => Arc::new(config),
        Err(errors) => {
            out.err.push_str(&format!("{errors}\n"));
            return BAD_CONFIG;
        }
    };
    let logs = match crate::log::init(&config.log) {
        Ok(logs) => logs,
        Err(e) => {
            out.error(e);
            return BAD_CONFIG;
        }
    };
    info!(version = env!("CARGO_PKG_VERSION"), name = %config.gateway.name, config = %file.display(), "causeway starts");
    for note in &config.notes {
        warn!("{note}");
    }
    // Before DPDK: threads made afterwards would inherit the pinned mask of its main thread.
    let spec = ControlSpec {
        config: Arc::clone(&config),
        // A reload reads the same file wherever the process is then.
        file: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()),
        logs,
        on_dead: control::exit_on_dead(),
        sighup: true,
    };
    let control = match control::start(spec) {
        Ok(control) => control,
        Err(e) => {
            out.error(e);
            return FAILED;
        }
    };
    let outcome = launch(&config, &control);
    control.stop();
    match outcome {
        Ok(()) => {
            info!("causeway has stopped");
            OK
        }
        Err(e) => {
            let mut text = e.to_string();
            let mut cause = e.source();
            while let Some(inner) = cause {
                text.push_str(&format!(": {inner}"));
                cause = inner.source();
            }
            if tracing::enabled!(tracing::Level::ERROR) {
                error!("{text}");
            } else {
                out.error(text);
            }
            FAILED
        }
    }
}

impl SocketArgs {
    /// The client of the socket that is meant.
    fn client(&self) -> Result<Client, String> {
        if let Some(socket) = &self.socket {
            return Ok(Client::new(socket.clone()));
        }
        if let Some(name) = &self.name {
            let name = Name::new(name).ok_or_else(|| format!("`{name}` is no name of a gateway"))?;
            return Ok(Client::new(config::default_socket(&name)));
        }
        let dir = Path::new(config::RUN_DIR);
        only_socket(dir).map(|found| Client::new(found.unwrap_or_else(|| dir.join("causeway.sock"))))
    }
}

/// A MAC address.
fn mac(text: &str) -> Result<String, String> {
    let mac: Result<causeway_wire::MacAddr, _> = text.parse();
    mac.map(|m| m.to_string()).map_err(|_| format!("`{text}` is no MAC address, as in 02:00:00:00:01:01"))
}

/// The only control socket of a folder; nothing if there is none.
fn only_socket(dir: &Path) -> Result<Option<PathBuf>, String> {
    let mut sockets: Vec<PathBuf> = std::fs::read_dir(dir)
        .map(|entries| {
            entries
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.extension().is_some_and(|e| e == "sock"))
                .collect()
        })
        .unwrap_or_default();
    sockets.sort();
    if sockets.len() > 1 {
        let names: Vec<String> =
            sockets.iter().filter_map(|p| Some(p.file_stem()?.to_string_lossy().into_owned())).collect();
        return Err(format!("several gateways have run here; say which with --name: {}", names.join(", ")));
    }
    Ok(sockets.pop())
}

/// Says why a call failed; the exit code for that.
fn failed(e: &ClientError, as_json: bool, out: &mut Output) -> u8 {
    if as_json {
        match e {
            ClientError::Refused { body, .. } => out.json(body),
            other => out.json(&json!({ "error": other.to_string() })),
        }
    }
    let mut text = e.to_string();
    if let ClientError::Refused { body, .. } = e
        && let Some(changes) = body.get("changes").and_then(Value::as_array)
    {
        for change in changes.iter().filter_map(|c| serde_json::from_value::<config::Change>(c.clone()).ok())
        {
            text.push_str(&format!("\n  {change}"));
        }
    }
    out.error(text);
    match e {
        ClientError::NotRunning(_) => NOT_RUNNING,
        ClientError::Refused { status: 422 | 400, .. } => BAD_CONFIG,
        _ => FAILED,
    }
}

/// Asks the running gateway, and shows what `ask` made of its answer: as JSON or as text. Gives the exit code.
fn asked(
    socket: &SocketArgs,
    as_json: bool,
    out: &mut Output,
    ask: impl FnOnce(&Client) -> Result<(Value, String, u8), ClientError>,
) -> u8 {
    let client = match socket.client() {
        Ok(client) => client,
        Err(e) => {
            out.error(e);
            return BAD_CONFIG;
        }
    };
    match ask(&client) {
        Ok((value, text, code)) => {
            if as_json {
                out.json(&value);
            } else {
                out.text(&text);
            }
            code
        }
        Err(e) => failed(&e, as_json, out),
    }
}

fn reload(socket: &SocketArgs, as_json: bool, out: &mut Output) -> u8 {
    asked(socket, as_json, out, |client| {
        client.post("/v1/reload").map(|report| {
            let text = show::reload(&report);
            (report, text, OK)
        })
    })
}

fn show(what: Show, out: &mut Output) -> u8 {
    let common = match &what {
        Show::Sessions { common, .. }
        | Show::Mappings { common, .. }
        | Show::Pool { common, .. }
        | Show::Subscribers { common, .. }
        | Show::Neighbors { common, .. }
        | Show::Counters { common, .. }
        | Show::Ports { common }
        | Show::Leases { common, .. }
        | Show::Peer { common }
        | Show::Vrrp { common }
        | Show::Dns { common }
        | Show::Splicer { common }
        | Show::Ra { common }
        | Show::Plan { common } => common,
    };
    let (socket, as_json) = (common.socket.clone(), common.json);
    asked(&socket, as_json, out, |client| show::fetch(client, what).map(|shown| (shown.json, shown.text, OK)))
}

#[cfg(test)]
mod tests;
