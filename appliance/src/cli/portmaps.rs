//! `causeway portmaps`: ports of a proxy address that lead to one server, given out while the gateway runs.

use super::show::parse;
use super::sites::origin;
use super::table::{Align, Table};
use super::{BAD_CONFIG, OK, Output, ShowArgs, failed};
use crate::control::client::{Client, ClientError};
use crate::control::introspect::Protocol;
use crate::control::sites::PortMapRow;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::net::{SocketAddrV4, SocketAddrV6};

/// What is done with port maps.
#[derive(Debug, Subcommand)]
pub(super) enum PortMapsCommand {
    /// All port maps, those of the configuration file among them.
    List(ListArgs),
    /// Give out a port that leads to a port of a server. A server that has one for that port keeps it.
    Add(AddArgs),
    /// Take a port back that was given out.
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    common: ShowArgs,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// The server's address and port, as in [2001:db8:64::101]:22.
    #[arg(value_name = "[IPV6]:PORT")]
    server: SocketAddrV6,
    /// UDP and not TCP.
    #[arg(long)]
    udp: bool,
    /// This outside port; without it any that is free.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    common: ShowArgs,
    /// The outside address and port, as in 203.0.113.80:20000.
    #[arg(value_name = "IPV4:PORT")]
    outside: SocketAddrV4,
    /// UDP and not TCP.
    #[arg(long)]
    udp: bool,
}

const fn protocol(udp: bool) -> Protocol {
    if udp { Protocol::Udp } else { Protocol::Tcp }
}

pub(super) fn execute(what: &PortMapsCommand, out: &mut Output) -> u8 {
    let common = match what {
        PortMapsCommand::List(a) => &a.common,
        PortMapsCommand::Add(a) => &a.common,
        PortMapsCommand::Remove(a) => &a.common,
    };
    let client = match common.socket.client() {
        Ok(client) => client,
        Err(e) => {
            out.error(e);
            return BAD_CONFIG;
        }
    };
    match done(&client, what) {
        Ok((value, text)) => {
            if common.json {
                out.json(&value);
            } else {
                out.text(&text);
            }
            OK
        }
        Err(e) => failed(&e, common.json, out),
    }
}

fn done(client: &Client, what: &PortMapsCommand) -> Result<(Value, String), ClientError> {
    let one = |value: &Value| -> Result<PortMapRow, ClientError> { parse(client, value["port_map"].clone()) };
    Ok(match what {
        PortMapsCommand::List(_) => {
            let value = client.get("/v1/portmaps")?;
            let rows: Vec<PortMapRow> = parse(client, value["port_maps"].clone())?;
            (value, table(&rows))
        }
        PortMapsCommand::Add(a) => {
            let port = a.port.map(|port| format!("&port={port}")).unwrap_or_default();
            let server = super::dns::encoded(&a.server.to_string());
            let path = format!("/v1/portmaps?protocol={}&server={server}{port}", protocol(a.udp));
            let value = client.post(&path)?;
            let row = one(&value)?;
            let had = if value["created"] == true { "" } else { ", as before" };
            let text = format!("{} {} leads to {}{had}\n", row.protocol, row.outside, row.inside);
            (value, text)
        }
        PortMapsCommand::Remove(a) => {
            let path = format!("/v1/portmaps?protocol={}&outside={}", protocol(a.udp), a.outside);
            let value = client.delete(&path)?;
            let row = one(&value)?;
            let text = format!("{} {} leads to {} no longer\n", row.protocol, row.outside, row.inside);
            (value, text)
        }
    })
}

fn table(rows: &[PortMapRow]) -> String {
    if rows.is_empty() {
        return "no port maps\n".to_owned();
    }
    let mut t = Table::new(&[
        ("PROTO", Align::Left),
        ("OUTSIDE", Align::Left),
        ("SERVER", Align::Left),
        ("ORIGIN", Align::Left),
    ]);
    for row in rows {
        let how = origin(row.origin);
        t.row([
            row.protocol.to_string(),
            row.outside.to_string(),
            row.inside.to_string(),
            if row.in_use { how.to_owned() } else { format!("{how} (NOT IN USE)") },
        ]);
    }
    t.to_string()
}
