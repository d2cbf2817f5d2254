//! The banner that `up` prints when it starts to serve.

use std::net::SocketAddr;

/// The first admin, if this start created one.
pub(crate) struct FirstAdmin {
    pub(crate) email: String,
    /// The password, if this start generated it.
    pub(crate) password: Option<String>,
}

/// The addresses of the API and its documentation, the data folder, and the first admin's credentials.
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
            lines.push(format!("  Password        {password}   (shown only once: keep it)"));
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
