//! `rialto container`: the entry point of an image that replaces docker-jitsi-meet's `jvb`. It writes
//! nothing to the image or to `/config`, which may be read-only.

mod render;

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{Failure, args::Run, log::Settings, print_error, serve};
use render::{Host, Variables};

/// Renders the configuration and runs the bridge with it, or prints it.
pub(super) fn run(print: bool) -> Result<ExitCode, Failure> {
    let utf8 = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let variables = Variables::new(env::vars_os().filter_map(utf8));
    let host = Host { name: host_name(), address: local_address() };
    if print {
        let _ = io::stdout().write_all(render::jvb_conf(&variables, &host).as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    if !variables.is_on("JVB_DISABLE_XMPP", false) && variables.get("JVB_AUTH_PASSWORD").is_none() {
        print_error("rialto: JVB_AUTH_PASSWORD must be set (or JVB_DISABLE_XMPP)");
        return Ok(ExitCode::from(78));
    }
    for remark in render::remarks(&variables) {
        print_error(&format!("rialto: {remark}"));
    }
    let path = write(&variables, &host)?;
    let log = variables.get("JVB_LOG_FILE").map(|file| log_file(&file)).transpose()?;
    let config = Run { config: Some(path), ..Run::default() };
    serve::run_with(&config, Settings { file: log, ..Settings::level("info") })
}

/// Writes `jvb.conf` beside a copy of the custom files, and returns its path.
fn write(variables: &Variables, host: &Host) -> Result<PathBuf, Failure> {
    let given = variables.get("RUN_DIR").unwrap_or_else(|| "/run/jvb".to_owned());
    let custom = variables.get("CONFIG_DIR").unwrap_or_else(|| "/config".to_owned());
    let folder = [given.as_str(), "/tmp/jvb"]
        .map(|run| Path::new(run).join("config"))
        .into_iter()
        .find(|folder| private_folder(folder).is_ok())
        .ok_or_else(|| {
            Failure::Other(format!(
                "neither {given} nor /tmp can be written to: mount a tmpfs there"
            ))
        })?;
    let files = || -> io::Result<PathBuf> {
        if Path::new(&custom).is_dir() {
            copy_all(Path::new(&custom), &folder)?;
        }
        let old = folder.join("custom-sip-communicator.properties");
        if old.exists() {
            fs::rename(old, folder.join("sip-communicator.properties"))?;
        }
        let path = folder.join("jvb.conf");
        // The file contains passwords.
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?
            .write_all(render::jvb_conf(variables, host).as_bytes())?;
        Ok(path)
    };
    files().map_err(|error| Failure::Other(format!("{custom} to {}: {error}", folder.display())))
}

/// Creates a folder that only this user can read and write.
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let probe = folder.join(".probe");
    fs::write(&probe, "")?;
    fs::remove_file(probe)
}

/// Copies the content of a folder. Links are followed: mounted secrets and config maps consist of them.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        // `..data` and similar: the folders that such links point into.
        if entry.file_name().as_encoded_bytes().starts_with(b"..") {
            continue;
        }
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if fs::metadata(&path)?.is_dir() {
            private_folder(&copy)?;
            copy_all(&path, &copy)?;
        } else {
            fs::write(copy, fs::read(path)?)?;
        }
    }
    Ok(())
}

fn log_file(path: &str) -> Result<fs::File, Failure> {
    let open = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    open.map_err(|error| Failure::Other(format!("JVB_LOG_FILE: {path}: {error}")))
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "jvb".to_owned() } else { name.trim().to_owned() }
}

/// Returns the address at which others reach this container: the source address of the default route, or
/// the first address.
fn local_address() -> String {
    // Connecting a UDP socket sends no packet.
    let routed = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("1.1.1.1:53")?;
        Ok(socket.local_addr()?.ip())
    });
    let first = || {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        interfaces.iter().map(if_addrs::Interface::ip).find(|ip| ip.is_ipv4() && !ip.is_loopback())
    };
    let address = routed.ok().or_else(first).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_maps_are_copied_through_their_links() {
        let folder = env::temp_dir().join(format!("rialto-copy-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir_all(from.join("..2026/nested")).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(from.join("..2026/custom-jvb.conf"), "a = 1").unwrap();
        fs::write(from.join("..2026/nested/more.conf"), "b = 2").unwrap();
        for name in ["custom-jvb.conf", "nested"] {
            std::os::unix::fs::symlink(format!("..2026/{name}"), from.join(name)).unwrap();
        }
        copy_all(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("custom-jvb.conf")).unwrap(), "a = 1");
        assert_eq!(fs::read_to_string(to.join("nested/more.conf")).unwrap(), "b = 2");
        assert!(!to.join("..2026").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
