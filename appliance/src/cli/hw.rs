//! `causeway hw`: hardware profiles and the devices of this machine.

use super::{BAD_CONFIG, FAILED, OK, Output};
use causeway_hwprofiles::detect;
use causeway_hwprofiles::profile::{self, HwProfile};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What is shown.
#[derive(Debug, Subcommand)]
pub(super) enum Hw {
    /// List the hardware profiles.
    List {
        #[command(flatten)]
        common: HwArgs,
    },
    /// Show one hardware profile and where its facts are from.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        common: HwArgs,
    },
    /// List the Ethernet devices of this machine, their profiles, and what they are missing.
    Detect {
        #[command(flatten)]
        common: HwArgs,
        /// Look at the machine whose file system begins here.
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct HwArgs {
    /// A folder with further profiles.
    #[arg(long, value_name = "DIR")]
    profile_dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(what: &Hw, out: &mut Output) -> u8 {
    let common = match what {
        Hw::List { common } | Hw::Show { common, .. } | Hw::Detect { common, .. } => common,
    };
    let all = match profile::all(common.profile_dir.as_deref()) {
        Ok(all) => all,
        Err(e) => {
            out.error(e);
            return BAD_CONFIG;
        }
    };
    match what {
        Hw::List { .. } => list(&all, common.json, out),
        Hw::Show { name, .. } => show(&all, name, common.json, out),
        Hw::Detect { root, .. } => find(&all, root, common.json, out),
    }
}

fn list(all: &[HwProfile], as_json: bool, out: &mut Output) -> u8 {
    if as_json {
        out.json(&json!({ "profiles": all }));
    } else {
        out.text(&profile::render_list(all));
    }
    OK
}

fn show(all: &[HwProfile], name: &str, as_json: bool, out: &mut Output) -> u8 {
    let Some(found) = profile::by_name(all, name) else {
        let known: Vec<&str> = all.iter().map(HwProfile::name).collect();
        out.error(format_args!("there is no hardware profile `{name}`; profiles: {}", known.join(", ")));
        return BAD_CONFIG;
    };
    if as_json {
        out.json(&json!(found));
    } else {
        out.text(&profile::render_show(found));
    }
    OK
}

fn find(all: &[HwProfile], root: &Path, as_json: bool, out: &mut Output) -> u8 {
    match detect::detect(root, all) {
        Ok(found) if as_json => {
            out.json(&json!(found));
            OK
        }
        Ok(found) => {
            out.text(&detect::render_detect(&found));
            OK
        }
        Err(e) => {
            out.error(e);
            FAILED
        }
    }
}
