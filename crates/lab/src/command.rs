//! Running other programs, with errors that say which one failed and what it wrote.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end and returns standard output.
/// # Errors
/// Not found, or a failure status: names the command line and the last lines of its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| start_failed(command))?;
    finished(command, &output)
}

/// As [`output`], with `input` on the command's standard input.
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().with_context(|| start_failed(command))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that fails early closes its input; its own message says more than "broken pipe".
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    finished(command, &output)
}

/// Runs with the terminal's own input and output, and returns the exit code for our own exit.
pub fn interactive(command: &mut Command) -> Result<u8> {
    let status = command.status().with_context(|| start_failed(command))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Runs with output passed through; a failure status is an error.
pub fn passthrough(command: &mut Command) -> Result<()> {
    match interactive(command)? {
        0 => Ok(()),
        code => bail!("{} ended with exit code {code}", line(command)),
    }
}

/// The full path of a program on PATH.
pub fn find_on_path(program: &str) -> Option<std::path::PathBuf> {
    // sbin holds ip and nft, and is not on the PATH of a plain `sudo` everywhere.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

/// Whether `file` is a file that somebody may execute.
pub fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn finished(command: &Command, output: &Output) -> Result<String> {
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let answer = String::from_utf8_lossy(&output.stdout);
        let said = if errors.trim().is_empty() { answer } else { errors };
        bail!("{}: {}\n{}", line(command), output.status, last_lines(&said, 15));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last `count` lines of `text`, indented.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(count));
    tail.map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn start_failed(command: &Command) -> String {
    format!("cannot run {}", command.get_program().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error =
            output(Command::new("sh").args(["-c", "echo out; echo trouble >&2; exit 3"])).unwrap_err().to_string();
        assert_eq!(error, "sh -c echo out; echo trouble >&2; exit 3: exit status: 3\n    trouble");
    }

    #[test]
    fn input_reaches_the_command() {
        assert_eq!(output_with_input(&mut Command::new("cat"), "hello").unwrap(), "hello");
    }
}
