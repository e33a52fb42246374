//! What lies around the program and has to fit it: `make run`, the systemd unit, the package.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A directory that ends with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rialto-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A program that says how it was called.
    fn program(&self, name: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\necho \"called: {name} $*\"\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A program of this machine.
    fn link(&self, name: &str) {
        let find = |directory: &str| Path::new(directory).join(name);
        let found = ["/bin", "/usr/bin"].map(find).into_iter().find(|path| path.exists());
        std::os::unix::fs::symlink(found.unwrap(), self.0.join(name)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `make run` where nothing is built.
fn make_run(path: &Directory, target: &Directory, port: &[&str]) -> Output {
    Command::new("make")
        .args(["--no-print-directory", "run"])
        .args(port)
        .env("PATH", &path.0)
        .env("CARGO_TARGET_DIR", &target.0)
        .env_remove("MAKEFLAGS")
        .env_remove("PORT")
        .output()
        .unwrap()
}

/// Directories with what `make run` needs, but for a compiler.
fn tools(name: &str) -> (Directory, Directory) {
    let tools = Directory::new(&format!("{name}-path"));
    for tool in ["make", "bash", "env", "dirname", "sh"] {
        tools.link(tool);
    }
    tools.program("cargo");
    (tools, Directory::new(&format!("{name}-target")))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn make_run_says_what_it_builds_and_takes_a_port() {
    let (path, target) = tools("run");
    path.program("cc");
    path.program("perl");
    let first = make_run(&path, &target, &["PORT=8123"]);
    let said = text(&first.stderr);
    assert!(said.contains("Building") && said.contains("minutes"), "{said}");
    assert!(text(&first.stdout).contains("called: cargo build --release"), "{said}");
    target.program("release/rialto");
    for (given, port) in [(&["PORT=8123"][..], "8123"), (&[], "8080")] {
        let run = make_run(&path, &target, given);
        let (out, said) = (text(&run.stdout), text(&run.stderr));
        assert!(run.status.success(), "{out}{said}");
        let started = format!("called: release/rialto dev --port {port}");
        assert_eq!(out.lines().last(), Some(&*started), "{said}");
        assert!(!said.contains("minutes"), "it is built");
    }
}

#[test]
fn make_run_names_the_tools_that_lack() {
    let (path, target) = tools("lacks");
    let run = make_run(&path, &target, &[]);
    let said = text(&run.stderr);
    assert!(!run.status.success() && said.contains("a C compiler is needed"), "{said}");
    path.program("cc");
    let said = text(&make_run(&path, &target, &[]).stderr);
    assert!(said.contains("Perl is needed"), "{said}");
    fs::remove_file(path.0.join("cargo")).unwrap();
    let said = text(&make_run(&path, &target, &[]).stderr);
    assert!(said.contains("a Rust toolchain is needed"), "{said}");
}

#[test]
fn make_static_says_what_to_do_where_there_is_no_target() {
    let path = Directory::new("static-path");
    for tool in ["bash", "env", "dirname", "grep", "uname"] {
        path.link(tool);
    }
    let make_static = || {
        let output = Command::new("scripts/static.sh").env("PATH", &path.0).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        text(&output.stderr)
    };
    assert!(make_static().contains("comes with rustup"));
    // One that knows no target and fetches none.
    fs::write(path.0.join("rustup"), "#!/bin/sh\n[ \"$2\" = list ]\n").unwrap();
    fs::set_permissions(path.0.join("rustup"), fs::Permissions::from_mode(0o755)).unwrap();
    path.link("sh");
    let said = make_static();
    assert!(said.contains("run 'rustup target add ") && said.contains("-linux-musl'"), "{said}");
}

/// A value of the unit's `[Service]`.
fn unit(key: &str) -> Option<String> {
    let unit = fs::read_to_string("config/rialto.service").unwrap();
    let mut lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
}

/// Captures are written into the state directory when there is one (`config::capture`): the unit's `/tmp`
/// is its own.
#[test]
fn the_unit_has_a_place_where_captures_can_be_read() {
    assert_eq!(unit("PrivateTmp").as_deref(), Some("true"));
    assert_eq!(unit("StateDirectory").as_deref(), Some("rialto"));
    // Or it would not hear that the bridge asks for more time to end.
    assert_eq!(unit("Type").as_deref(), Some("notify"));
}

/// What `Cargo.toml` says of the Debian package.
fn package() -> String {
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let (_, package) = manifest.split_once("\n[package.metadata.deb]\n").unwrap();
    package.split("\n[profile").next().unwrap().to_owned()
}

#[test]
fn the_package_has_files_that_are_there_and_where_the_unit_looks_for_them() {
    let package = package();
    let (mut seen, mut binary) = (0, String::new());
    for line in package.lines().filter(|line| line.starts_with("  [\"")) {
        let parts: Vec<_> = line.split('"').collect();
        let (source, destination) = (parts[1], parts[3]);
        seen += 1;
        // What is below `target` is made by scripts/package/build.sh, which has to name it.
        match source.strip_prefix("target/package/") {
            Some("man/*.1") => {}
            Some(made) => {
                let script = fs::read_to_string("scripts/package/build.sh").unwrap();
                assert!(script.contains(&format!("\"$out/{made}\"")), "{made}");
            }
            None if source == "target/release/rialto" => binary = format!("/{destination}rialto"),
            None => assert!(Path::new(source).exists(), "{source}"),
        }
    }
    assert!(seen > 8, "{seen}");
    let start = unit("ExecStart").unwrap();
    assert!(start.starts_with(&format!("{binary} run ")), "{start}");
    for name in ["rialto.service", "rialto.sysusers"] {
        assert!(Path::new("config").join(name).exists(), "cargo-deb looks for {name}");
    }
}

#[test]
fn the_package_takes_the_place_of_jvbs() {
    let package = package();
    for key in ["provides", "conflicts", "replaces"] {
        let line = package.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        assert!(line.contains("jitsi-videobridge2"), "{line}");
    }
    let users = fs::read_to_string("config/rialto.sysusers").unwrap();
    assert!(users.contains(&format!("u {} -:{} ", unit("User").unwrap(), unit("Group").unwrap())));
    let start = unit("ExecStart").unwrap();
    let conf = start.split(' ').next_back().unwrap();
    for script in ["postinst", "postrm"] {
        let text = fs::read_to_string(Path::new("config/debian").join(script)).unwrap();
        assert!(text.contains(conf), "{script} is about another file than {conf}");
        // The place of what cargo-deb adds: users, the unit.
        assert!(text.contains("\n#DEBHELPER#\n"), "{script}");
    }
}

/// The sources that `make release` looks at first, in a repository of their own.
fn repository(name: &str) -> Directory {
    let copy = Directory::new(name);
    for file in ["Cargo.toml", "CHANGELOG.md", "scripts/release.sh", "scripts/lib.sh"] {
        let to = copy.0.join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        let git =
            git.current_dir(&copy.0).args(["-c", "user.name=t", "-c", "user.email=t@localhost"]);
        assert!(git.args(args).output().unwrap().status.success(), "{args:?}");
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "All"]);
    copy
}

#[test]
fn no_release_names_a_repository_or_a_maintainer_that_cannot_be() {
    let copy = repository("release");
    let release = |variables: &[(&str, &str)], version: &str| {
        let mut script = Command::new("scripts/release.sh");
        script.current_dir(&copy.0).env_remove("REPOSITORY").env_remove("MAINTAINER");
        let output = script.envs(variables.iter().copied()).arg(version).output().unwrap();
        assert!(!output.status.success());
        text(&output.stderr)
    };
    let good = "https://code.rialto.dev/rialto";
    let somebody = "Some Body <some.body@rialto.dev>";
    assert!(release(&[], "one").contains("must say the version"));
    for (repository, maintainer, part) in [
        ("", somebody, "set REPOSITORY="),
        ("https://git.example.org/rialto", somebody, "set REPOSITORY="),
        ("https://rialto.example/rialto", somebody, "set REPOSITORY="),
        ("git@code.rialto.dev:rialto", somebody, "is not an https address"),
        ("https://code.rialto.dev/\"", somebody, "is not an https address"),
        (good, "", "set MAINTAINER="),
        (good, "Rialto <maintainers@rialto.example>", "set MAINTAINER="),
        (good, "some.body@rialto.dev", "NAME <ADDRESS>"),
    ] {
        let said = release(&[("REPOSITORY", repository), ("MAINTAINER", maintainer)], "9.9.9");
        assert!(said.contains(part), "{repository} {maintainer}: {said}");
    }
    let log = Command::new("git").current_dir(&copy.0).args(["log", "--format=%s"]).output();
    assert_eq!(text(&log.unwrap().stdout), "All\n", "nothing was committed");
}
