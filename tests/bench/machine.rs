//! On which machine, and by which command, a table was made.

/// Prints both, the command as it is typed.
pub fn print_machine(command: &str) {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {model}, {cores} cores, {} {}", std::env::consts::OS, std::env::consts::ARCH);
    println!("command: {command} (pen-dsr {})", env!("CARGO_PKG_VERSION"));
}
