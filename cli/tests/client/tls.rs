//! HTTPS with a trusted certificate and with an unknown one.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::fake::document;
use super::run;
use crate::support::cuponera;

const ME: &str = r#"{"id":"1","businessId":"2","role":"ADMIN","email":"admin@example.com"}"#;

/// Starts an HTTPS server that answers every request with the same account. Returns its URL and its certificate.
fn serve() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("no certificate can be made");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("no key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("no versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("the certificate is not accepted");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding to loopback failed");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let connection = ServerConnection::new(config.clone()).expect("no connection can be made");
            let mut stream = StreamOwned::new(connection, stream);
            // Fails for a client that does not trust the certificate.
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(document("200 OK", ME).as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (format!("https://localhost:{port}"), cert.pem())
}

fn whoami(url: &str) -> Command {
    let mut command = cuponera();
    command.args(["whoami", "--url", url, "--patience", "1m"]).env("CUPONERA_API_KEY", "a-key");
    command
}

#[test]
fn https_is_spoken_with_whom_a_known_certificate_vouches_for() {
    let (url, certificate) = serve();
    let folder = tempfile::tempdir().expect("creating a temporary folder failed");
    let file = folder.path().join("known.pem");
    std::fs::write(&file, certificate).expect("writing failed");
    run(whoami(&url).env("SSL_CERT_FILE", &file)).prints(&["admin@example.com"]);
}

#[test]
fn a_stranger_is_refused_at_once() {
    let (url, _) = serve();
    let begun = Instant::now();
    run(&mut whoami(&url)).fails(4, &[&url, "no secure connection", "SSL_CERT_FILE"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "it was retried");
}
