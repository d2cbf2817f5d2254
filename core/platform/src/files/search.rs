//! Searches the files of a job for texts, for the erasure of a user.

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use cuponera_domain::id::JobId;
use cuponera_domain::text;
use cuponera_store::{Error, Result};

use super::{Files, classify};

/// What separates the cells of a file, besides blanks and zero-width characters: the delimiters and quotes, and the apostrophe before a
/// formula.
const SEPARATORS: &[char] = &[',', ';', '|', '"', '\''];
/// Maximum length of a character in UTF-8.
const MAX_CHAR_BYTES: usize = 4;
/// Follows the last part of a file, so that each text is followed by a whole character.
const END: &[u8] = b"\n\n\n\n";

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
            if search.finds_in(END) {
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

    /// Whether a text ends at least [`MAX_CHAR_BYTES`] before the end of the parts so far, between separators.
    fn finds_in(&mut self, part: &[u8]) -> bool {
        self.tail.extend_from_slice(part);
        let tail = &self.tail[..];
        let is_found = self.texts.iter().any(|text| {
            occurrences(tail, text).any(|start| {
                let (before, after) = (&tail[..start], &tail[start + text.len()..]);
                after.len() >= MAX_CHAR_BYTES
                    && last_char(before).is_some_and(is_separator)
                    && first_char(after).is_some_and(is_separator)
            })
        });
        let longest = self.texts.iter().map(Vec::len).max().unwrap_or(0);
        let kept = self.tail.len().saturating_sub(longest + 2 * MAX_CHAR_BYTES);
        self.tail.drain(..kept);
        is_found
    }
}

/// Where a text begins, also inside another occurrence of it.
fn occurrences(bytes: &[u8], text: &[u8]) -> impl Iterator<Item = usize> {
    let find = move |from: usize| memchr::memmem::find(&bytes[from..], text).map(|at| from + at);
    std::iter::successors(find(0), move |at| find(at + 1))
}

/// Whether a character is no part of a cell at this place: an import removes blanks and zero-width characters at the ends.
fn is_separator(character: char) -> bool {
    SEPARATORS.contains(&character) || text::trim(character.encode_utf8(&mut [0; MAX_CHAR_BYTES])).is_empty()
}

fn first_char(bytes: &[u8]) -> Option<char> {
    let bytes = &bytes[..bytes.len().min(MAX_CHAR_BYTES)];
    bytes.utf8_chunks().next()?.valid().chars().next()
}

fn last_char(bytes: &[u8]) -> Option<char> {
    let bytes = &bytes[bytes.len().saturating_sub(MAX_CHAR_BYTES)..];
    // The first bytes may be the rest of another character.
    let last = bytes.utf8_chunks().last()?;
    if last.invalid().is_empty() { last.valid().chars().next_back() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(parts: &[&str], texts: &[&str]) -> bool {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let mut search = Search::new(&texts);
        parts.iter().any(|part| search.finds_in(part.as_bytes())) || search.finds_in(END)
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
        for padded in
            ["C1,\u{a0}ana,x", "C1,ana\u{a0}\n", "C1,\u{200b}ana\u{2060},x", "C1;\u{3000}ana", "ana\u{feff}"]
        {
            let mut search = Search::new(&["ana".to_owned()]);
            assert!(
                padded.bytes().any(|byte| search.finds_in(&[byte])) || search.finds_in(END),
                "{padded:?}"
            );
        }
        assert!(finds(&["xa,a,a\n"], &["a,a"]));
        for other in ["mañana", "anañ", "C1,ana\u{301}", "ñana,", "C1,日ana日"] {
            assert!(!finds(&[other], &["ana"]), "{other:?}");
        }
        assert!(!finds(&["x"], &[]));
    }
}
