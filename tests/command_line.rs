//! The binary as its users meet it: processes, pipes, exit codes, signals.

#[path = "support/process.rs"]
mod process;

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Output, Stdio},
};

use process::{Process, serve};

const BINARY: &str = env!("CARGO_BIN_EXE_s2s-gateway");
const STREAM: &str = "my-basin-01/orders/eu west";
const ROOT: &str = "root-token-of-the-operator";

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(words: &[&str]) -> Output {
    command(words).output().unwrap()
}

/// A gateway in a process of its own.
struct Gateway(Process);

impl Gateway {
    fn start(words: &[&str]) -> Self {
        Self(Process::start(serve([&["--memory"], words].concat())).unwrap())
    }

    /// One that asks for tokens; [`Gateway::run`] presents none.
    fn with_tokens() -> Self {
        let mut command = serve(["--memory", "--auth"]);
        command.env("S2S_ROOT_TOKEN", ROOT);
        Self(Process::start(command).unwrap())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(words);
        command.env("S2S_ADDR", self.0.url());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// With what `token` allows.
    fn run_as(&self, token: &str, words: &[&str]) -> Output {
        self.command(words).env("S2S_TOKEN", token).output().unwrap()
    }

    fn run_with(&self, words: &[&str], input: &[u8]) -> Output {
        let mut process = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(input).unwrap();
        process.wait_with_output().unwrap()
    }

    fn append(&self, words: &[&str], input: &[u8]) -> Output {
        self.run_with(&[&["append", STREAM], words].concat(), input)
    }

    fn read(&self, words: &[&str]) -> Output {
        self.run(&[&["read", STREAM], words].concat())
    }
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// What was complained of: one line.
fn complaint(output: &Output) -> &str {
    let text = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    text.trim_end()
}

fn succeeded(output: Output) -> Output {
    assert!(output.status.success(), "{}: {:?}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn lines_come_back_byte_for_byte() {
    let gateway = Gateway::start(&[]);
    let mut input = Vec::new();
    for i in 0..20_000u32 {
        writeln!(input, "{i} {}", "z".repeat(i as usize % 300)).unwrap();
    }
    input.extend_from_slice(b"\n\xff\xfe not text\0\r\n");
    let appended = succeeded(gateway.append(&["--create"], &input));
    assert!(stdout(&appended).starts_with("appended 20002 records, tail 20002 @ "), "{}", stdout(&appended));
    for compression in ["none", "zstd", "gzip"] {
        let back = succeeded(gateway.read(&["--compression", compression]));
        assert!(back.stdout == input, "{compression}");
        assert!(back.stderr.is_empty());
    }
    for compression in ["zstd", "gzip"] {
        succeeded(gateway.append(&["--create", "--quiet", "--compression", compression], &input));
    }
    let back = succeeded(gateway.read(&["--seq-num", "40004"]));
    assert!(back.stdout == input, "the last newline may be missing on the way in");
}

#[test]
fn reads_start_and_end_where_they_are_told() {
    let gateway = Gateway::start(&[]);
    succeeded(gateway.append(&["--create"], b"zero\none\ntwo\nthree"));
    for (words, expected) in [
        (&["--seq-num", "2"][..], "two\nthree\n"),
        (&["--tail-offset", "1"], "three\n"),
        (&["-n", "2"], "zero\none\n"),
        (&["--bytes", "24"], "zero\none\n"),
        (&["--timestamp", "0", "--count", "1"], "zero\n"),
        (&["--seq-num", "4"], ""),
        (&["--seq-num", "9", "--clamp"], ""),
        (&["--seq-num", "3", "--wait", "0"], "three\n"),
        (&["--follow", "--count", "4"], "zero\none\ntwo\nthree\n"),
    ] {
        assert_eq!(stdout(&succeeded(gateway.read(words))), expected, "{words:?}");
    }
    let beyond = gateway.read(&["--seq-num", "5"]);
    assert_eq!(beyond.status.code(), Some(1));
    assert!(complaint(&beyond).contains("the tail is 4"));
}

#[test]
fn an_empty_stream_reads_as_nothing() {
    let gateway = Gateway::start(&[]);
    let appended = succeeded(gateway.append(&["--create"], b""));
    assert_eq!(stdout(&appended), "appended 0 records\n");
    assert_eq!(stdout(&succeeded(gateway.read(&[]))), "");
    assert_eq!(stdout(&succeeded(gateway.read(&["--tail-offset", "5"]))), "");
}

#[test]
fn json_lines_go_in_as_they_come_out() {
    let gateway = Gateway::start(&[]);
    let line = r#"{"seq_num":0,"timestamp":7,"headers":[["aw==","/w=="]],"body":"AAEC"}"#;
    succeeded(gateway.append(&["--create", "--json", "--base64"], line.as_bytes()));
    assert_eq!(stdout(&succeeded(gateway.read(&["--json", "--base64"]))).trim_end(), line);
    // A fence is said, not shown, where only bodies are.
    succeeded(gateway.append(&["--json"], br#"{"headers":[["","fence"]],"body":"w1"}"#));
    let raw = succeeded(gateway.read(&["--seq-num", "1"]));
    assert!(raw.stdout.is_empty() && complaint(&raw).contains("record 1 is a `fence` command"));
    let fenced = gateway.append(&["--fencing-token", "w2"], b"x");
    assert!(complaint(&fenced).contains("\"w1\""), "{fenced:?}");
    succeeded(gateway.append(&["--fencing-token", "w1"], b"x"));
}

#[test]
fn conditions_hold_from_the_first_record_on() {
    let gateway = Gateway::start(&[]);
    // More than one batch, so that the later ones name their numbers too.
    let input = b"x\n".repeat(3500);
    succeeded(gateway.append(&["--create", "--match-seq-num", "0"], &input));
    let refused = gateway.append(&["--match-seq-num", "0"], &input);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint(&refused).contains("3500"), "{refused:?}");
    assert!(refused.stdout.is_empty(), "nothing was appended");
}

#[test]
fn a_bad_line_is_named_after_the_good_ones_before_it_are_in() {
    let gateway = Gateway::start(&[]);
    let mut input = b"one\ntwo\n".to_vec();
    input.resize(input.len() + (1 << 20), b'x');
    input.extend_from_slice(b"\nnever\n");
    let appended = gateway.append(&["--create"], &input);
    assert_eq!(appended.status.code(), Some(1));
    assert!(complaint(&appended).starts_with("s2s-gateway: line 3: "));
    assert!(stdout(&appended).starts_with("appended 2 records, tail 2 @ "));
    assert_eq!(stdout(&succeeded(gateway.read(&[]))), "one\ntwo\n");
}

#[test]
fn a_follower_sees_what_comes() {
    let gateway = Gateway::start(&[]);
    succeeded(gateway.append(&["--create"], b"old\n"));
    let mut follower = gateway.command(&["read", STREAM, "--follow"]).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "old");
    succeeded(gateway.append(&[], b"new\n"));
    assert_eq!(lines.next().unwrap().unwrap(), "new");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn whoever_stops_listening_is_not_an_error() {
    let gateway = Gateway::start(&[]);
    succeeded(gateway.append(&["--create"], &b"some text that fills pipes\n".repeat(50_000)));
    let mut reader = gateway.command(&["read", STREAM]).spawn().unwrap();
    let mut some = [0; 4];
    reader.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn failure_is_1_and_misuse_is_2() {
    let gateway = Gateway::start(&[]);
    for (code, words) in [
        (1, &["read", "my-basin-01/none"][..]),
        (1, &["append", "no-such-basin/none"]),
        (1, &["read", STREAM, "--addr", "http://127.0.0.1:1"]),
        (1, &["serve", "--memory", "--listen", "127.0.0.1:0", "--tls-cert", "missing.pem", "--tls-key", "missing.pem"]),
        (2, &["read", "no-slash"]),
        (2, &["serve", "--listen", "0.0.0.0:0"]),
        (2, &["append", STREAM, "--linger", "soon"]),
        (2, &["read", STREAM, "--encryption-key", "secret"]),
        (1, &["basin", "delete", "my-basin-02"]),
        (1, &["stream", "tail", STREAM]),
        (1, &["stream", "list", "my-basin-02"]),
        (1, &["token", "revoke", "nobody"]),
        (2, &["basin", "create", "short"]),
        (2, &["stream", "create", STREAM, "--retention", "forever"]),
        (2, &["token", "issue", "nobody"]),
        (2, &["token", "list", "--prefix", &"x".repeat(97)]),
    ] {
        let output = gateway.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        assert!(complaint(&output).starts_with("s2s-gateway: "), "{output:?}");
    }
    assert_eq!(run(&["read"]).status.code(), Some(2));
    assert_eq!(run(&["read", STREAM, "--follow", "--wait", "1"]).status.code(), Some(2));
    assert_eq!(run(&["token"]).status.code(), Some(2));
    for help in [
        &["--help"][..],
        &["serve", "--help"],
        &["append", "-h"],
        &["read", "-h"],
        &["basin", "create", "--help"],
        &["stream", "--help"],
        &["token", "issue", "-h"],
        &["--version"],
    ] {
        assert_eq!(run(help).status.code(), Some(0), "{help:?}");
    }
}

/// The names in the first column, below the heading.
fn names(listing: &Output) -> Vec<&str> {
    stdout(listing).lines().skip(1).map(|line| line.split("  ").next().unwrap()).collect()
}

#[test]
fn basins_and_streams_are_made_listed_and_deleted() {
    let gateway = Gateway::start(&[]);
    let run = |words: &str| succeeded(gateway.run(&words.split(' ').collect::<Vec<_>>()));
    assert_eq!(stdout(&run("basin list")), "");
    for words in [
        "basin create my-basin-01 --cipher aegis-256 --retention 30d",
        "basin create other-basin-01 --create-on-append",
        "stream create my-basin-01/orders --retention infinite --timestamping arrival --delete-on-empty 1h",
        "stream create my-basin-01/orders/eu",
        "stream create s2://my-basin-01/returns",
    ] {
        assert_eq!(stdout(&run(words)), "", "{words}");
    }
    let again = gateway.run(&["stream", "create", "my-basin-01/returns"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(complaint(&again).contains("exists"), "{again:?}");

    assert_eq!(names(&run("basin list")), ["my-basin-01", "other-basin-01"]);
    assert_eq!(names(&run("basin list --prefix other-")), ["other-basin-01"]);
    assert_eq!(names(&run("stream list my-basin-01")), ["orders", "orders/eu", "returns"]);
    let orders = run("stream list my-basin-01 --prefix orders");
    assert_eq!(names(&orders), ["orders", "orders/eu"]);
    assert!(stdout(&orders).lines().skip(1).all(|line| line.ends_with("  aegis-256  active")), "{orders:?}");
    let json = run("stream list my-basin-01 --prefix ret --json");
    assert!(stdout(&json).starts_with(r#"{"name":"returns","created_at":""#), "{json:?}");
    assert!(stdout(&json).ends_with("\"cipher\":\"aegis-256\"}\n"), "{json:?}");

    succeeded(gateway.run_with(&["append", "other-basin-01/made-by-it", "--quiet"], b"one\ntwo\n"));
    assert!(stdout(&run("stream tail other-basin-01/made-by-it")).starts_with("2 @ "));
    assert!(stdout(&run("stream tail other-basin-01/made-by-it --json")).starts_with(r#"{"tail":{"seq_num":2,"#));

    run("stream delete other-basin-01/made-by-it");
    let gone = gateway.run(&["stream", "tail", "other-basin-01/made-by-it"]);
    assert_eq!(gone.status.code(), Some(1));
    run("basin delete my-basin-01");
    let unwritable = gateway.run(&["stream", "create", "my-basin-01/more"]);
    assert_eq!(unwritable.status.code(), Some(1), "it is being deleted, or gone");
}

#[test]
fn encrypted_streams_need_the_key() {
    const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";
    let gateway = Gateway::start(&[]);
    succeeded(gateway.run(&["basin", "create", "my-basin-01", "--cipher", "aes-256-gcm"]));
    succeeded(gateway.run(&["stream", "create", STREAM]));
    assert_eq!(gateway.append(&[], b"one\n").status.code(), Some(1), "without a key");
    succeeded(gateway.append(&["--encryption-key", KEY], b"one\n"));
    let read = gateway.command(&["read", STREAM]).env("S2S_ENCRYPTION_KEY", KEY).output().unwrap();
    assert_eq!(stdout(&succeeded(read)), "one\n");
    let other = KEY.replace('c', "d");
    let undecrypted = gateway.read(&["--encryption-key", &other]);
    assert_eq!(undecrypted.status.code(), Some(1));
    assert!(complaint(&undecrypted).contains("decryption_failed"), "{undecrypted:?}");
    let help = gateway.command(&["read", "--help"]).env("S2S_ENCRYPTION_KEY", KEY).output().unwrap();
    assert!(!stdout(&help).contains(KEY), "keys are not shown");
}

#[test]
fn a_token_is_issued_used_listed_and_revoked() {
    let gateway = Gateway::with_tokens();
    let root = |words: &[&str]| gateway.run_as(ROOT, words);
    assert!(complaint(&gateway.run(&["basin", "list"])).contains("authn"));
    succeeded(root(&["basin", "create", "my-basin-01"]));
    let scope = ["--basins", "exact:my-basin-01", "--streams", "prefix:tenant/", "--auto-prefix"];
    let may = ["--allow", "stream:rw", "--op", "create-stream,list-streams", "--expires", "1h"];
    let issued = succeeded(root(&[&["token", "issue", "tenant"][..], &scope, &may].concat()));
    let token = stdout(&issued).strip_suffix('\n').unwrap();
    assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()), "the secret and nothing else");
    assert!(issued.stderr.is_empty());

    let tenant = |words: &[&str]| gateway.run_as(token, words);
    succeeded(tenant(&["stream", "create", "my-basin-01/orders"]));
    assert_eq!(names(&succeeded(tenant(&["stream", "list", "my-basin-01"]))), ["orders"]);
    assert_eq!(names(&succeeded(root(&["stream", "list", "my-basin-01"]))), ["tenant/orders"]);
    assert_eq!(stdout(&succeeded(tenant(&["read", "my-basin-01/orders"]))), "");
    for words in [
        &["basin", "create", "my-basin-02"][..],
        &["stream", "delete", "my-basin-01/orders"],
        &["stream", "list", "other-basin-01"],
        &["token", "issue", "other", "--op", "read"],
        &["token", "list"],
    ] {
        let refused = tenant(words);
        assert_eq!(refused.status.code(), Some(1), "{words:?}");
        assert!(complaint(&refused).contains("permission_denied"), "{words:?}: {refused:?}");
    }

    let listing = succeeded(root(&["token", "list"]));
    assert!(stdout(&listing).lines().nth(1).unwrap().starts_with("root "), "the operator's: {listing:?}");
    let line = stdout(&listing).lines().nth(2).unwrap();
    let scope = "stream:rw,list-streams,create-stream  exact:my-basin-01  prefix:tenant/ (auto)  -";
    assert!(line.starts_with("tenant  2") && line.ends_with(scope), "{line}");
    let json = succeeded(root(&["token", "list", "--prefix", "ten", "--json"]));
    assert!(stdout(&json).starts_with(r#"{"id":"tenant","expires_at":"2"#), "{json:?}");
    assert!(!stdout(&json).contains(token) && !stdout(&listing).contains(token));
    assert_eq!(stdout(&succeeded(root(&["token", "list", "--prefix", "x"]))), "");

    let again = root(&["token", "issue", "tenant", "--op", "read"]);
    assert!(complaint(&again).contains("resource_already_exists"), "{again:?}");
    assert!(again.stdout.is_empty());
    succeeded(root(&["token", "revoke", "tenant"]));
    let revoked = tenant(&["read", "my-basin-01/orders"]);
    assert_eq!(revoked.status.code(), Some(1));
    assert!(complaint(&revoked).contains("authn"), "{revoked:?}");
    assert!(complaint(&root(&["token", "revoke", "tenant"])).contains("access_token_not_found"));
}

#[test]
fn tls_with_a_certificate_made_at_start() {
    let gateway = Gateway::start(&["--tls-self-signed"]);
    assert!(gateway.0.url().starts_with("https://127.0.0.1:"), "{}", gateway.0.url());
    succeeded(gateway.append(&["--create", "--insecure"], b"secret\n"));
    assert_eq!(stdout(&succeeded(gateway.read(&["--insecure"]))), "secret\n");
    let wary = gateway.read(&[]);
    assert_eq!(wary.status.code(), Some(1), "nobody knows this certificate");
    assert!(complaint(&wary).contains("cannot connect"), "{wary:?}");
}

#[test]
fn told_to_stop_it_acknowledges_what_was_sent_and_ends() {
    // Time enough for what was sent, also where processes get their turn seldom.
    let mut gateway = Gateway::start(&["--drain-timeout", "5s"]);
    let mut appender =
        gateway.command(&["append", STREAM, "--create", "--linger", "0"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut follower = gateway.command(&["read", STREAM, "--follow"]);
    let mut input = appender.stdin.take().unwrap();
    input.write_all(b"one\ntwo\n").unwrap();
    // The stream is there when the first line was appended: wait for it, and see that line come.
    let mut follower = loop {
        let mut process = follower.spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        if out.read_line(&mut line).unwrap() > 0 {
            assert_eq!(line, "one\n");
            break process;
        }
        process.wait().unwrap();
    };
    gateway.0.signal("TERM");
    drop(input);
    let appended = succeeded(appender.wait_with_output().unwrap());
    assert!(stdout(&appended).starts_with("appended 2 records, tail 2 @ "));
    // The follower hears of it at its next heartbeat or, earlier here, at the deadline; it has nowhere else to go.
    assert!(gateway.0.wait().success());
    assert_eq!(follower.wait().unwrap().code(), Some(1));
}
