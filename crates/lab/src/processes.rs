//! What /proc says about processes.

use std::collections::BTreeMap;
use std::fs;

/// One process, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id, in the numbers of whoever asked.
    pub pid: i32,
    parent: i32,
    state: char,
    /// Clock ticks after boot: with the id, this names a process for good.
    pub(crate) started: u64,
    /// Its command line.
    pub arguments: Vec<String>,
}

impl Process {
    /// Not a zombie.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    /// Stopped by a signal.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state == 'T'
    }

    /// Whether the very same process is there, and not a zombie.
    pub(crate) fn still_runs(&self) -> bool {
        read(self.pid).is_some_and(|now| now.started == self.started && now.is_alive())
    }

    /// `kubelet` is a program by its file's name, `landfall speaker` by its subcommand.
    pub(crate) fn is_program(&self, program: &str) -> bool {
        let file = self.arguments.first().map(|path| path.rsplit('/').next().unwrap_or(path));
        file == Some(program) || self.arguments.get(1).is_some_and(|argument| argument == program)
    }

    /// Memory that it holds now, in KiB (`VmRSS`).
    pub fn resident_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    }
}

/// One process; `None` when there is none with this id.
pub(crate) fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = arguments.split_terminator('\0').map(str::to_owned).collect();
    parse_stat(pid, &stat, arguments)
}

/// Source: proc_pid_stat(5). The command's name, field 2, is in parentheses and may hold anything.
fn parse_stat(pid: i32, stat: &str, arguments: Vec<String>) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, parent) = (fields.first()?.chars().next()?, fields.get(1)?.parse().ok()?);
    Some(Process { pid, parent, state, started: fields.get(19)?.parse().ok()?, arguments })
}

/// Every process on this computer.
pub(crate) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(read).collect()
}

/// Every living process below `ancestor`, without it.
pub(crate) fn descendants(ancestor: i32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut parents) = (Vec::new(), vec![ancestor]);
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.pid);
            found.push(child);
        }
    }
    found.retain(Process::is_alive);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) R 9 (b)) S 3 7 7 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 4242 1 1 0";
        let process = parse_stat(7, stat, Vec::new()).unwrap();
        assert_eq!((process.parent, process.state, process.started), (3, 'S', 4242));
    }

    #[test]
    fn this_test_is_found_among_its_parents_descendants() {
        let own = read(std::process::id().try_into().unwrap()).unwrap();
        assert!(own.still_runs() && own.resident_kib().unwrap() > 0);
        assert!(
            descendants(own.parent).contains(&read(own.pid).unwrap())
                || descendants(1).iter().any(|p| p.pid == own.pid)
        );
    }
}
