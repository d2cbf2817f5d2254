//! A server that returns prepared answers, one per connection, and records the requests: for answers that a real server
//! gives only under faults.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::client::Ran;
use crate::client::world::run;
use crate::support::cuponera;

/// A recorded request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) at: Instant,
}

/// The server.
pub(crate) struct Fake {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Starts a server with these answers. An empty answer closes the connection after the request was read.
    pub(crate) fn answering(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding to loopback failed");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        std::thread::spawn(move || {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                // Recorded before the answer is sent: a test reads the records once it has the answer.
                let request = read_request(&stream);
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { url, asked }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs the command against it.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let mut command = cuponera();
        command.args(words).env("CUPONERA_URL", &self.url).env("CUPONERA_API_KEY", "a-key");
        run(&mut command)
    }
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// An answer; `status` has the code and the reason phrase.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
}

/// An answer in JSON.
pub(crate) fn document(status: &str, body: &str) -> String {
    answer(status, "Content-Type: application/json\r\n", body)
}

fn read_request(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let line = read_line(&mut reader);
    let mut headers = Vec::new();
    while let Some((name, value)) = read_line(&mut reader).split_once(": ") {
        headers.push((name.to_owned(), value.to_owned()));
    }
    let asked = Asked { line, headers, at: Instant::now() };
    let length = asked.header("Content-Length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let _ = reader.read_exact(&mut vec![0; length]);
    asked
}

fn read_line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    let _ = reader.read_line(&mut line);
    line.trim_end().to_owned()
}
