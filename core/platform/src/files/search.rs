//! Searches the files of a job for texts, for the erasure of a user.

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use cuponera_domain::id::JobId;
use cuponera_store::{Error, Result};

use super::{Files, classify};

/// What separates the cells of a file: the delimiters and quotes, the apostrophe before a formula, the end of a line, and the last byte
/// of a byte order mark.
const SEPARATORS: &[u8] = b",;|\"' \t\r\n\xbf";

/// Which files of a job contain one of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FoundIn {
    /// The upload.
    pub upload: bool,
    /// The errors files of earlier versions.
    pub errors: bool,
    /// The export, or its parts.
    pub export: bool,
}

impl Files {
    /// Which files of a job have one of the texts as a cell, or as a word of a cell.
    pub async fn search(&self, job: JobId, texts: &[String]) -> Result<FoundIn> {
        Ok(FoundIn {
            upload: self.folder_has(&format!("uploads/{job}"), texts).await?,
            errors: self.folder_has(&format!("errors/{job}"), texts).await?,
            export: self.folder_has(&format!("exports/{job}"), texts).await?,
        })
    }

    async fn folder_has(&self, folder: &str, texts: &[String]) -> Result<bool> {
        let mut names = self.store.list(Some(&Path::from(folder)));
        while let Some(file) = names.try_next().await.map_err(Error::unavailable)? {
            let found = self.store.get(&file.location).await.map_err(classify)?;
            let mut bytes = found.into_stream().boxed();
            let mut search = Search::new(texts);
            while let Some(part) = bytes.try_next().await.map_err(Error::unavailable)? {
                if search.finds_in(&part) {
                    return Ok(true);
                }
            }
            if search.finds_in(b"\n") {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A search in a file, part by part.
struct Search {
    texts: Vec<Vec<u8>>,
    /// The end of the parts so far, in which a text may begin.
    tail: Vec<u8>,
}

impl Search {
    fn new(texts: &[String]) -> Self {
        let quoted = texts.iter().filter(|text| text.contains('"')).map(|text| text.replace('"', "\"\""));
        Self {
            texts: texts.iter().cloned().chain(quoted).map(String::into_bytes).collect(),
            tail: vec![b'\n'],
        }
    }

    /// Whether a text ends before the last byte of the part.
    fn finds_in(&mut self, part: &[u8]) -> bool {
        self.tail.extend_from_slice(part);
        let is_separator = |byte: &u8| SEPARATORS.contains(byte);
        let is_found = self.texts.iter().any(|text| {
            self.tail.windows(text.len() + 2).any(|window| {
                is_separator(&window[0])
                    && window[1..=text.len()] == text[..]
                    && is_separator(&window[text.len() + 1])
            })
        });
        let longest = self.texts.iter().map(Vec::len).max().unwrap_or(0);
        let kept = self.tail.len().saturating_sub(longest + 1);
        self.tail.drain(..kept);
        is_found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(parts: &[&str], texts: &[&str]) -> bool {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let mut search = Search::new(&texts);
        parts.iter().any(|part| search.finds_in(part.as_bytes())) || search.finds_in(b"\n")
    }

    /// Invariant I-71.
    #[test]
    fn a_text_is_found_as_a_cell_at_any_boundary_of_parts_and_not_inside_another_cell() {
        let file = "code,userId\r\nC1,ana\r\nC2,\"ana, maría\"\r\nC3,banana\r\nC4,o\"\"n\r\nlast";
        for cut in (0..file.len()).filter(|cut| file.is_char_boundary(*cut)) {
            let parts = [&file[..cut], &file[cut..]];
            for found in ["ana", "ana, maría", "banana", "o\"n", "last", "code"] {
                assert!(finds(&parts, &[found]), "{found} at {cut}");
            }
            for absent in ["ban", "an", "ana, mar", "eva", "C"] {
                assert!(!finds(&parts, &[absent]), "{absent} at {cut}");
            }
        }
        assert!(finds(&["\u{feff}ana"], &["eva", "ana"]));
        assert!(!finds(&["x"], &[]));
    }
}
