//! Makes the bindings from the DPDK headers that are installed, and compiles the C shim that holds
//! what bindings cannot hold: inline functions, values of macros, and the `setsockopt` wrapper.

use std::env;
use std::path::{Path, PathBuf};

/// The DPDK libraries that the bindings call. Drivers are not among them: EAL loads those as plugins
/// from its own folder, and they bring what they need.
const LIBRARIES: &[&str] = &["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring"];

/// Where Debian keeps the libclang of LLVM 14, the one that its DPDK headers are read with. Other
/// versions on the same machine would read other intrinsics headers, and fail.
const LIBCLANG: &[&str] = &["/usr/lib/llvm-14/lib", "/usr/lib/llvm-15/lib", "/usr/lib/llvm-16/lib"];

fn main() {
    for file in ["build.rs", "src/shim.c", "src/shim.h"] {
        println!("cargo:rerun-if-changed={file}");
    }
    for variable in ["CAUSEWAY_LIBCLANG_PATH", "PKG_CONFIG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rustc-check-cfg=cfg(dpdk_24_11)");

    let dpdk = pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .probe("libdpdk")
        .unwrap_or_else(|e| panic!("DPDK 22.11 or later is needed (Debian: libdpdk-dev): {e}"));
    // 22.11 is what the project is tested with. What 24.11 renamed and regrouped is handled by the shim
    // and by the hand-written mbuf, which compile against its headers; nothing has run on it.
    if version(&dpdk.version) >= (24, 11) {
        println!("cargo:rustc-cfg=dpdk_24_11");
    }
    for path in &dpdk.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }

    let mut flags: Vec<String> = dpdk.include_paths.iter().map(|p| format!("-I{}", p.display())).collect();
    // What DPDK's own pkg-config file asks for besides the folders (the pkg-config crate leaves it out).
    flags.extend(["-include", "rte_config.h", "-D_GNU_SOURCE"].map(String::from));
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        flags.push("-march=corei7".to_owned());
    }

    shim(&flags);
    bindings(&flags);

    // After the shim: a linker that drops what is not needed yet reads from left to right.
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
}

/// Major and minor number of a version text; zero for what is missing.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn shim(flags: &[String]) {
    let mut build = cc::Build::new();
    build.file("src/shim.c").opt_level(3).warnings(true).std("gnu11");
    // The headers of DPDK are not ours to warn about.
    for flag in flags {
        match flag.strip_prefix("-I") {
            Some(path) => build.flag("-isystem").flag(path),
            None => build.flag(flag),
        };
    }
    build.compile("causeway_dpdk_shim");
}

fn bindings(flags: &[String]) {
    let chosen = env::var("CAUSEWAY_LIBCLANG_PATH").ok();
    let folder = chosen
        .as_deref()
        .into_iter()
        .chain(LIBCLANG.iter().copied())
        .find(|folder| Path::new(folder).join("libclang.so.1").exists());
    if let Some(folder) = folder {
        // SAFETY: the build script has one thread at this point.
        unsafe { env::set_var("LIBCLANG_PATH", folder) };
    }

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    bindgen::Builder::default()
        .header("src/shim.h")
        .clang_args(flags)
        // Made again when a header changes, as it does when the package is upgraded.
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .rust_edition(bindgen::RustEdition::Edition2024)
        .rust_target(bindgen::RustTarget::stable(85, 0).expect("Rust 1.85 is a stable version"))
        .allowlist_function("_rte_.*|cw_.*")
        .allowlist_var("CW_.*|RTE_MBUF_DEFAULT_BUF_SIZE|RTE_PKTMBUF_HEADROOM|RTE_MAX_LCORE")
        .allowlist_var("ETH_RSS_(IP|TCP|UDP|SCTP)|DEV_TX_OFFLOAD_MBUF_FAST_FREE")
        .allowlist_function("rte_eth_dev_(socket_id|start|stop|info_get|configure|get_port_by_name)")
        .allowlist_function("rte_eth_dev_(close|adjust_nb_rx_tx_desc|set_mtu|get_mtu|rss_reta_query)")
        .allowlist_function("rte_eth_dev_(rss_hash_conf_get|mac_addr_add|mac_addr_remove)")
        .allowlist_function("rte_eth_(rx|tx)_queue_setup|rte_eth_(promiscuous|allmulticast)_.*")
        .allowlist_function("rte_eth_(macaddr_get|stats_get|link_get_nowait|add_rx_callback|add_tx_callback)")
        .allowlist_function("rte_eal_(init|cleanup|get_runtime_dir)|rte_strerror|rte_version")
        .allowlist_function("rte_socket_(id|count|id_by_idx)|rte_thread_(set_affinity|register|unregister)")
        .allowlist_function("rte_pktmbuf_pool_create|rte_mempool_(free|in_use_count|avail_count|lookup)")
        .allowlist_type("rte_cpuset_t|rte_eth_stats|cw_mbuf_layout")
        // Written by hand: Capsule reads their fields and names, which later versions of DPDK moved.
        .blocklist_type("rte_mbuf|rte_eth_rx_mq_mode")
        .raw_line("use crate::mbuf::rte_mbuf;")
        .raw_line("use crate::rte_eth_rx_mq_mode;")
        // Wrapped, each in the module of its subject.
        .blocklist_function("rte_eal_init|rte_eal_cleanup|rte_thread_set_affinity")
        .blocklist_function("rte_pktmbuf_pool_create|rte_mempool_free")
        .blocklist_function("rte_eth_dev_(configure|get_port_by_name|start|adjust_nb_rx_tx_desc)")
        .blocklist_function("rte_eth_(rx|tx)_queue_setup")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .derive_default(true)
        .layout_tests(true)
        .generate_comments(false)
        .generate()
        .expect("the DPDK headers can be read with libclang 14 (Debian: libclang-14-dev)")
        .write_to_file(out)
        .expect("cargo's output folder can be written");
}
