//! The address of the file store: a folder, or a bucket with a prefix.

use std::path::PathBuf;
use std::str::FromStr;

/// The error for an invalid address.
const HINT: &str =
    "must be file:// and an absolute path, or a bucket and a prefix as in s3://my-bucket/cuponera";

/// An address of a file store, from the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesAddress {
    /// A local folder.
    Folder(PathBuf),
    /// An S3 bucket. The prefix is empty or has no trailing slash.
    Bucket {
        /// The bucket's name.
        name: String,
        /// The prefix of all object names.
        prefix: String,
    },
}

impl FromStr for FilesAddress {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Folder(PathBuf::from(path))),
            Some(("s3", place)) => bucket(place),
            _ => Err(HINT.to_owned()),
        }
    }
}

fn bucket(place: &str) -> Result<FilesAddress, String> {
    let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.trim_end_matches('/');
    // The rules of S3, except that a dot is rejected: it would break the certificate of the host name.
    let is_named = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    let has_parts = prefix.is_empty() || prefix.split('/').all(is_part);
    if !(3..=63).contains(&name.len()) || !name.chars().all(is_named) || !has_parts {
        return Err(HINT.to_owned());
    }
    Ok(FilesAddress::Bucket { name: name.to_owned(), prefix: prefix.to_owned() })
}

/// Characters that need no escaping.
fn is_part(part: &str) -> bool {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    !part.is_empty() && part != "." && part != ".." && part.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str, prefix: &str) -> FilesAddress {
        FilesAddress::Bucket { name: name.to_owned(), prefix: prefix.to_owned() }
    }

    #[test]
    fn files_are_in_a_folder_or_under_a_prefix_of_a_bucket() {
        assert_eq!("file:///srv/files".parse(), Ok(FilesAddress::Folder("/srv/files".into())));
        assert_eq!("s3://cuponera-files".parse(), Ok(bucket("cuponera-files", "")));
        assert_eq!("s3://cuponera-files/".parse(), Ok(bucket("cuponera-files", "")));
        assert_eq!("s3://my-files/shop/a_1/".parse(), Ok(bucket("my-files", "shop/a_1")));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for url in
            ["", "files", "file://files", "s3://", "s3://ab", "s3://My-Files", "s3://a.bucket", "https://x/y"]
        {
            let fault = url.parse::<FilesAddress>().unwrap_err();
            assert!(fault.contains("s3://my-bucket"), "{url}: {fault}");
        }
        for prefix in ["a//b", "../up", "a/./b", "a b", "ñ"] {
            assert!(format!("s3://my-files/{prefix}").parse::<FilesAddress>().is_err(), "{prefix}");
        }
    }
}
