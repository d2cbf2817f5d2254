//! The parameters of an upload, from the query and from the fields of a form.

use std::str::FromStr;

use cuponera_domain::csv::{ColumnLabel, Content, Delimiter, ReadOptions};
use cuponera_domain::rejection::Rejection;
use cuponera_store::Result;
use uuid::Uuid;

/// The parameters of an upload. A parameter given in both the query and the form must have the same value.
#[derive(Debug, Default)]
pub(in crate::routes) struct Parameters {
    pub(in crate::routes) book: Option<Uuid>,
    pub(in crate::routes) dry_run: Option<bool>,
    pub(in crate::routes) reading: ReadOptions,
}

/// Parameters of a query as text.
#[derive(Debug, Default)]
pub(in crate::routes) struct Texts {
    pub(in crate::routes) delimiter: Option<String>,
    pub(in crate::routes) code_column: Option<String>,
    pub(in crate::routes) user_column: Option<String>,
}

impl Parameters {
    /// Those of a file of codes.
    pub(in crate::routes) fn of_codes(
        content: Content,
        book: Option<Uuid>,
        dry_run: Option<bool>,
        header: Option<bool>,
        texts: Texts,
    ) -> Result<Self> {
        let reading = ReadOptions { content, header, ..ReadOptions::default() };
        Self { book, dry_run, reading }.with(texts)
    }

    /// Those of a file of users.
    pub(in crate::routes) fn of_users(header: Option<bool>, texts: Texts) -> Result<Self> {
        let reading = ReadOptions { content: Content::Users, header, ..ReadOptions::default() };
        Self { reading, ..Self::default() }.with(texts)
    }

    fn with(mut self, texts: Texts) -> Result<Self> {
        let Texts { delimiter, code_column, user_column } = texts;
        for (name, value) in
            [("delimiter", delimiter), ("codeColumn", code_column), ("userColumn", user_column)]
        {
            self.set(name, &value.unwrap_or_default())?;
        }
        Ok(self)
    }

    /// The names of the parameters that the file may have.
    pub(in crate::routes) fn names(&self) -> &'static [&'static str] {
        names(self.reading.content)
    }

    pub(in crate::routes) fn is_known(&self, name: &str) -> bool {
        self.names().contains(&name)
    }

    /// Sets a parameter from text. An empty text counts as absent, except for the book.
    pub(in crate::routes) fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let reading = &mut self.reading;
        match name {
            "couponBookId" => put(&mut self.book, name, text, |text| {
                text.parse().map_err(|_| "must be an id (a UUID)".to_owned())
            }),
            _ if text.is_empty() => Ok(()),
            "dryRun" => put(&mut self.dry_run, name, text, true_or_false),
            "header" => put(&mut reading.header, name, text, true_or_false),
            "delimiter" => put(&mut reading.delimiter, name, text, |text| {
                Delimiter::from_str(text).map_err(|expected| format!("must be {expected}"))
            }),
            "codeColumn" => put(&mut reading.code_column, name, text, column),
            "userColumn" => put(&mut reading.user_column, name, text, column),
            _ => Err(Rejection::invalid(name, "is not known").into()),
        }
    }
}

/// The names of the parameters of a file with this content.
pub(in crate::routes) fn names(content: Content) -> &'static [&'static str] {
    match content {
        Content::Codes | Content::Assignments => {
            &["couponBookId", "dryRun", "delimiter", "header", "codeColumn", "userColumn"]
        }
        Content::Users => &["delimiter", "header", "userColumn"],
    }
}

fn put<T: PartialEq>(
    into: &mut Option<T>,
    name: &str,
    text: &str,
    parse: impl Fn(&str) -> std::result::Result<T, String>,
) -> Result<()> {
    let value = parse(text).map_err(|message| Rejection::invalid(name, message))?;
    if into.as_ref().is_some_and(|given| *given != value) {
        return Err(Rejection::invalid(name, "has different values in the query and in the form").into());
    }
    *into = Some(value);
    Ok(())
}

fn true_or_false(text: &str) -> std::result::Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

fn column(text: &str) -> std::result::Result<ColumnLabel, String> {
    text.parse().map_err(str::to_owned)
}
