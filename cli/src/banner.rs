//! What `up` says once it serves.

use std::net::SocketAddr;

/// The first admin, if this start made one.
pub(crate) struct FirstAdmin {
    pub(crate) email: String,
    /// Shown only if it was made up here.
    pub(crate) password: Option<String>,
}

/// Where it listens, where the documentation is, and how to log in.
pub(crate) fn banner(address: SocketAddr, data_dir: &std::path::Path, admin: Option<&FirstAdmin>) -> String {
    let base = format!("http://{address}");
    let mut lines = vec![
        String::new(),
        format!("  Cuponera {} is up", env!("CARGO_PKG_VERSION")),
        String::new(),
        format!("  API             {base}/api/v1"),
        format!("  Documentation   {base}/docs"),
        format!("  Data folder     {}", data_dir.display()),
    ];
    match admin {
        Some(FirstAdmin { email, password: Some(password) }) => {
            lines.push(format!("  First admin     {email}"));
            lines.push(format!("  Password        {password}   (shown this once: keep it)"));
        }
        Some(FirstAdmin { email, password: None }) => {
            lines.push(format!("  First admin     {email}, with the password from the settings"));
        }
        None => {}
    }
    lines.push(String::new());
    lines.push("  Ctrl-C stops it".to_owned());
    lines.push(String::new());
    lines.join("\n")
}
