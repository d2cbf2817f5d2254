//! A Redis for one test: a real server without persistence, on a free loopback port. Tests flush, freeze
//! and kill it.

use std::io::{BufRead, BufReader, PipeWriter, pipe};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::emulator::free_address;
use crate::eventually;

/// A running Redis. It ends with the value and with this process, even after a kill: a shell reads from a
/// pipe that only this process holds open.
#[derive(Debug)]
pub struct Redis {
    program: String,
    address: SocketAddr,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    pid: Pid,
    _shell: Child,
    _alive: PipeWriter,
}

impl Redis {
    /// Starts a server.
    pub async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let script = Command::new(root.join("scripts/ensure-redis.sh")).stderr(Stdio::inherit()).output();
        let script = script.expect("Redis could not be installed");
        assert!(script.status.success(), "Redis could not be installed: see above");
        let program = String::from_utf8_lossy(&script.stdout).trim().to_owned();
        let mut redis = Self { program, address: free_address(), server: None };
        redis.start_again().await;
        redis
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Starts it again at the same address, empty.
    pub async fn start_again(&mut self) {
        self.server = Some(Server::start(&self.program, self.address));
        eventually("Redis to answer", async || {
            let mut connection = TcpStream::connect(self.address).await.ok()?;
            (ask(&mut connection, &["PING"]).await.ok()? == "+PONG").then_some(())
        })
        .await;
    }

    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops the process (SIGSTOP): connections stay open, and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues the process (SIGCONT), which then handles the commands received meanwhile.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Deletes all keys.
    pub async fn flush(&self) {
        assert_eq!(self.ask(&["FLUSHALL"]).await, "+OK");
    }

    /// The first line of the reply to a command, in the format of the protocol.
    pub async fn ask(&self, command: &[&str]) -> String {
        let mut connection = TcpStream::connect(self.address).await.expect("Redis does not answer");
        ask(&mut connection, command).await.expect("Redis ended the connection")
    }

    fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("it runs");
        kill_process(server.pid, signal).expect("Redis is gone");
    }
}

impl Server {
    fn start(program: &str, address: SocketAddr) -> Self {
        let (reader, alive) = pipe().expect("creating a pipe failed");
        let mut shell = Command::new("sh")
            .args(["-c", r#""$0" "$@" >/dev/null & echo $!; read -r _; kill -KILL $! 2>/dev/null"#, program])
            .args(["--bind", &Ipv4Addr::LOCALHOST.to_string(), "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir", "/tmp"])
            .stdin(reader)
            .stdout(Stdio::piped())
            .spawn()
            .expect("Redis cannot be run");
        let mut pid = String::new();
        let stdout = shell.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut pid).expect("the shell does not print the process id");
        let pid = Pid::from_raw(pid.trim().parse().expect("a process has an id"));
        Self { pid: pid.expect("a process has an id"), _shell: shell, _alive: alive }
    }
}

async fn ask(connection: &mut TcpStream, command: &[&str]) -> std::io::Result<String> {
    let words = command.iter().flat_map(|word| [format!("${}", word.len()), (*word).to_owned()]);
    let lines: Vec<String> = [format!("*{}", command.len())].into_iter().chain(words).collect();
    connection.write_all(format!("{}\r\n", lines.join("\r\n")).as_bytes()).await?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(connection.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
