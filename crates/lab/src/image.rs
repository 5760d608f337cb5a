//! Container images without a container engine: a few static files, packed as a docker-archive that `ctr images import`
//! and `docker load` read.
//! Source: Docker Image Specification v1.2, "Combined Image JSON + Filesystem Changeset Format"; POSIX ustar.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ring::digest;

/// An image of one layer.
pub struct Image<'a> {
    /// With registry: `docker.io/lab/echo:1`.
    pub name: &'a str,
    /// What runs, with its first arguments.
    pub entrypoint: &'a [&'a str],
    /// Files: where they come from, and their path inside.
    pub files: &'a [(&'a Path, &'a str)],
}

/// Writes images into one archive, replacing it at once when complete.
/// # Errors
/// A file that cannot be read or written.
pub fn write_archive(archive: &Path, images: &[Image<'_>]) -> Result<()> {
    let (mut tar, mut manifest) = (Tar::default(), Vec::new());
    let mut written = Vec::new(); // two images of the same files share the layer
    for image in images {
        let layer = layer(image.files)?;
        let diff_id = sha256(&layer);
        let config = serde_json::json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": image.entrypoint, "Env": ["PATH=/"], "User": "65534:65534"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
            "history": [{"created": "1970-01-01T00:00:00Z"}],
        });
        let config = serde_json::to_vec(&config)?;
        let (config_name, layer_name) = (format!("{}.json", sha256(&config)), format!("{diff_id}/layer.tar"));
        tar.file(&config_name, 0o644, &config)?;
        if !written.contains(&layer_name) {
            tar.file(&layer_name, 0o644, &layer)?;
        }
        manifest.push(serde_json::json!({"Config": config_name, "RepoTags": [image.name], "Layers": [layer_name]}));
        written.push(layer_name);
    }
    tar.file("manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;

    let partial = archive.with_extension("partial");
    let write = || -> std::io::Result<()> {
        File::create(&partial)?.write_all(&tar.finish())?;
        fs::rename(&partial, archive)
    };
    write().with_context(|| format!("write {}", archive.display()))
}

fn layer(files: &[(&Path, &str)]) -> Result<Vec<u8>> {
    let mut tar = Tar::default();
    for (source, target) in files {
        let content = fs::read(source).with_context(|| format!("image file {}", source.display()))?;
        tar.file(target.trim_start_matches('/'), 0o755, &content)?;
    }
    Ok(tar.finish())
}

/// The name that images use for this computer's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// In hexadecimal.
pub(crate) fn sha256(octets: &[u8]) -> String {
    digest::digest(&digest::SHA256, octets).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A writer of ustar archives: plain files, owned by root, dated 1970 so that equal content gives equal archives.
#[derive(Default)]
struct Tar {
    blocks: Vec<u8>,
}

impl Tar {
    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        ensure!(name.len() < 100, "{name}: longer than a ustar name may be (99 octets)");
        let mut header = [0u8; 512];
        let mut field =
            |offset: usize, text: &str| header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
        field(0, name);
        field(100, &format!("{mode:07o}"));
        field(108, "0000000"); // owner
        field(116, "0000000"); // group
        field(124, &format!("{:011o}", content.len()));
        field(136, "00000000000"); // modification time
        field(148, "        "); // the checksum counts as spaces
        field(156, "0"); // a plain file
        field(257, "ustar\x0000");
        let checksum: u32 = header.iter().map(|octet| u32::from(*octet)).sum();
        header[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
        self.blocks.extend_from_slice(&header);
        self.blocks.extend_from_slice(content);
        self.blocks.resize(self.blocks.len().next_multiple_of(512), 0);
        Ok(())
    }

    /// An archive ends with two empty blocks.
    fn finish(mut self) -> Vec<u8> {
        self.blocks.extend_from_slice(&[0; 1024]);
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command::{output, output_with_input};

    #[test]
    fn tar_reads_what_we_write() {
        let mut tar = Tar::default();
        tar.file("greeting", 0o755, b"hello").unwrap();
        let dir = std::env::temp_dir().join(format!("lf-tar-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let archive = dir.join("a.tar");
        fs::write(&archive, tar.finish()).unwrap();
        let listing = output(Command::new("tar").arg("-tvf").arg(&archive)).unwrap();
        let text = output(Command::new("tar").arg("-xOf").arg(&archive).arg("greeting")).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert!(listing.starts_with("-rwxr-xr-x 0/0"), "{listing}");
        assert_eq!(text, "hello");
    }

    #[test]
    fn digest_is_that_of_sha256sum() {
        let theirs = output_with_input(&mut Command::new("sha256sum"), "landfall").unwrap();
        assert_eq!(theirs.split_whitespace().next(), Some(sha256(b"landfall").as_str()));
    }
}
