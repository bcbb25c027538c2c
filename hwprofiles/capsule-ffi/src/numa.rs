//! Which NUMA node a CPU belongs to, read where EAL itself reads it, so that both agree (libnuma, which
//! Capsule's crate used, answers -1 on machines without NUMA, where EAL says node 0).

use std::ffi::c_int;
use std::path::Path;

/// The NUMA node of a CPU; 0 when the machine does not say.
///
/// # Safety
/// None is needed; Capsule calls it as a C function.
#[must_use]
pub unsafe fn numa_node_of_cpu(cpu: c_int) -> c_int {
    node_of(Path::new("/sys/devices/system/node"), cpu)
}

fn node_of(root: &Path, cpu: c_int) -> c_int {
    let Ok(entries) = root.read_dir() else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse::<c_int>().ok())
        .find(|node| root.join(format!("node{node}/cpu{cpu}")).exists())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_on_the_node_that_lists_it_and_else_on_node_0() {
        let root = std::env::temp_dir().join(format!("causeway-numa-{}", std::process::id()));
        for path in ["node0/cpu0", "node0/cpu1", "node1/cpu2"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        let nodes = [0, 1, 2, 3].map(|cpu| node_of(&root, cpu));
        let missing = node_of(&root.join("nowhere"), 2);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!((nodes, missing), ([0, 0, 1, 0], 0));
    }
}
