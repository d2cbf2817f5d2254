//! The cases, by kind.

use super::{ImportCase, rejected, taken};

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../cases/", $name))
    };
}

/// All cases.
pub fn import_cases() -> Vec<ImportCase> {
    [
        import_files(),
        delimiter_lines(),
        headers(),
        titles(),
        repeated_headers(),
        invisible_characters(),
        delimiters(),
        blank_rows(),
        padded_quotes(),
        stray_cells(),
        limits(),
        formulas(),
        headers_alone(),
        unclear(),
        explicit_options(),
        sound(),
    ]
    .concat()
}

/// The files of `testkit/cases`.
pub fn import_files() -> Vec<ImportCase> {
    let bad = |lines: &[u64]| lines.iter().map(|line| (*line, "bad_character")).collect::<Vec<_>>();
    vec![
        taken("bom_quoted_header", file!("bom_quoted_header.csv"), "ZQBQH1", &[]),
        taken(
            "comma_file_semicolons_in_text",
            file!("comma_file_semicolons_in_text.csv"),
            "ZQSEM1 ZQSEM2",
            &[],
        ),
        taken("concatenated", file!("concatenated.csv"), "ZQCAT1=ana ZQCAT2=ben", &[(3, "repeated_header")]),
        rejected("cp1252", file!("cp1252.csv"), "not_utf8"),
        taken("damaged_quotes", file!("damaged_quotes.csv"), "ZQ5ZBQG3C=9d70-dd7b ZQ7FBZDC4", &[]),
        taken("digit_header", file!("digit_header.csv"), "ZQDIG1 ZQDIG2", &[]),
        taken("double_bom", file!("double_bom.csv"), "ZQBOM1=ana", &[]),
        taken("es_no_header_decimals", file!("es_no_header_decimals.csv"), "ZQDEC1 ZQDEC2", &[]),
        taken("es_no_header_names", file!("es_no_header_names.csv"), "ZQNAM1 ZQNAM2", &[]),
        taken("excel_blank_rows", file!("excel_blank_rows.csv"), "ZQBLA1=ana", &[]),
        taken("excel_sep_line", file!("excel_sep_line.csv"), "ZQSEP1=ana ZQSEP2=ben", &[]),
        taken(
            "excel_sep_line_name_first",
            file!("excel_sep_line_name_first.csv"),
            "ZQSEN1=ana ZQSEN2=ben",
            &[],
        ),
        taken("excel_text_tricks", file!("excel_text_tricks.csv"), "", &bad(&[1, 2, 3])),
        taken("formulas", file!("formulas.csv"), "", &bad(&[1, 2, 3, 4])),
        rejected("header_only", file!("header_only.csv"), "empty_file"),
        taken("header_shop_export", file!("header_shop_export.csv"), "ZQ-MAG-1 ZQ-MAG-2", &[]),
        taken(
            "line_numbers",
            file!("line_numbers.csv"),
            "ZQLIN1 ZQLIN2",
            &[(5, "bad_character"), (7, "empty"), (8, "bad_character"), (10, "duplicate_in_file")],
        ),
        taken("mac_cr", file!("mac_cr.csv"), "ZQMAC1=ana ZQMAC2=ben", &[]),
        taken("nbsp", file!("nbsp.csv"), "ZQNBS1=ana", &[]),
        rejected("nul_in_note", file!("nul_in_note.csv"), "not_utf8"),
        taken("offer_codes_with_link", file!("offer_codes_with_link.csv"), "ZQOFF1 ZQOFF2", &[]),
        taken("pandas_index", file!("pandas_index.csv"), "ZQPAN1=ana ZQPAN2=ben", &[]),
        taken("space_before_quotes", file!("space_before_quotes.csv"), "ZQSPQ1=ana", &[]),
        taken("space_before_quotes_comma", file!("space_before_quotes_comma.csv"), "ZQSPC1=ana", &[]),
        taken("tabs", file!("tabs.txt"), "ZQTAB1=ana", &[]),
        taken("title_above_header", file!("title_above_header.csv"), "ZQTIT1=ana", &[]),
        taken("unicode_case", file!("unicode_case.csv"), "", &bad(&[2, 3, 4, 5, 6])),
        taken(
            "user_limit",
            file!("user_limit.csv"),
            "ZQULI1=ana ZQULI2 ZQULI3=ben",
            &[(3, "user_limit_reached")],
        )
        .limit(1),
        taken(
            "voucher_roll",
            file!("voucher_roll.csv"),
            "ZQ3PR5WIPQ ZQDU3DFZBA ZQS6TH8M5Y",
            &bad(&[1, 2, 3]),
        ),
        taken("woo_sample", file!("woo_sample.csv"), "ZQCOUPONA ZQCOUPONB", &[]),
        taken("zero_width_code", file!("zero_width_code.csv"), "", &bad(&[2, 3])),
        taken("zero_width_header", file!("zero_width_header.csv"), "ZQZWH1=ana", &[]),
    ]
}

fn delimiter_lines() -> Vec<ImportCase> {
    vec![
        taken("sep tab", b"sep=\t\r\ncode\tuserId\r\nZQ1\tana\r\n", "ZQ1=ana", &[]),
        taken("sep in capitals, lf", b"SEP=,\ncode,note\nZQ1,a;b\n", "ZQ1", &[]),
        taken("sep in quotes", b"\"sep=;\"\r\nCode;Note\r\nZQ1;a,b\r\n", "ZQ1", &[]),
        taken("sep behind a mark", b"\xEF\xBB\xBFsep=|\nZQ1|x\nZQ2|y\n", "ZQ1 ZQ2", &[]),
        taken("sep saved as a row", b"sep=;;;\r\ncode;userId;note\r\nZQ1;ana;\r\n", "ZQ1=ana", &[]),
        taken(
            "sep, then a title",
            b"sep=;\r\nLista de verano;;\r\nC\xC3\xB3digo;Usuario;Nota\r\nZQ1;ana;x\r\n",
            "ZQ1=ana",
            &[],
        ),
        rejected("sep of no known delimiter", b"sep=:\r\ncode:note\r\nZQ1:x\r\n", "unknown_delimiter"),
    ]
}

fn headers() -> Vec<ImportCase> {
    vec![
        taken("camel case", b"id,couponCode,TYPE,FLAT\n1,ZQ1,AAA,BBB\n2,ZQ2,CCC,DDD\n", "ZQ1 ZQ2", &[]),
        taken(
            "spanish",
            "Nombre;Código;Cliente\nOferta;ZQ1;ana\nOferta;ZQ2;\n".as_bytes(),
            "ZQ1=ana ZQ2",
            &[],
        ),
        taken("all capitals", b"\"USER ID\",\"PROMO_CODE\"\n\"ana\",\"ZQ1\"\n", "ZQ1=ana", &[]),
        taken("voucher code", b"Voucher-Code\tHolder\nZQ1\tana\n", "ZQ1=ana", &[]),
        taken("gift card code", b"Gift Card Code,Balance\nZQ1,10\nZQ2,20\n", "ZQ1 ZQ2", &[]),
        taken("codigo de cupon", "Código de cupón;Id de usuario\nZQ1;ana\n".as_bytes(), "ZQ1=ana", &[]),
        taken("german", b"Gutscheincode;Kunden-ID;Betrag\nZQ1;ana;10,00\n", "ZQ1=ana", &[]),
        taken("french", "Code promo;Client;Remise\nZQ1;ana;10 %\n".as_bytes(), "ZQ1=ana", &[]),
        taken(
            "many columns",
            b"a1,a2,a3,a4,a5,a6,a7,a8,a9,b1,b2,b3,b4,b5,b6,vale,b8\n,,,,,,,,,,,,,,,ZQ1,x\n",
            "ZQ1",
            &[],
        ),
        taken("a number sign", b"#;code;note\n1;ZQ1;x\n2;ZQ2;y\n", "ZQ1 ZQ2", &[]),
        taken(
            "words that look like codes",
            b"NOMBRE,CLAVE,ANA\nUNO,ZQ1,TYPE\nDOS,ZQ2,FLAT\n",
            "ZQ1 ZQ2",
            &[],
        ),
        taken("decomposed accents", "Co\u{301}digo,Nota\nZQ1,x\n".as_bytes(), "ZQ1", &[]),
    ]
}

fn titles() -> Vec<ImportCase> {
    vec![
        taken("a word that looks like a code", b"VERANO;;\ncode;userId;nota\nZQ1;ana;x\n", "ZQ1=ana", &[]),
        taken("three titles", b"Export\nShop North\n2027-01-01\n\nCoupon;User\nZQ1;ana\n", "ZQ1=ana", &[]),
        taken(
            "two cells above three",
            b"Generated;2027\nBy;Ana\ncode;user;note\nZQ1;ana;x\n",
            "ZQ1=ana",
            &[],
        ),
        taken(
            "a title that is a name",
            "Cupón\nCódigo;Usuario\nZQ1;ana\nZQ2;ben\n".as_bytes(),
            "ZQ1=ana ZQ2=ben",
            &[],
        ),
        taken("a comment above", b"# exported 2027\ncode,userId\nZQ1,ana\n", "ZQ1=ana", &[]),
        taken(
            "a quoted title with a line break",
            b"\"Campaign\nof summer\";\ncode;note\nZQ1;x\n",
            "ZQ1",
            &[],
        ),
        rejected("a title without a header", "Lista de cupones\nZQ1\nZQ2\n".as_bytes(), "unclear_header"),
    ]
}

fn repeated_headers() -> Vec<ImportCase> {
    let again = &[(3, "repeated_header")];
    vec![
        taken("in capitals", b"code;nota\nZQ1;x\nCODE;NOTA\nZQ2;y\n", "ZQ1 ZQ2", again),
        taken(
            "with a mark",
            b"\xEF\xBB\xBFcode,userId\nZQ1,ana\n\xEF\xBB\xBFcode,userId\nZQ2,ben\n",
            "ZQ1=ana ZQ2=ben",
            again,
        ),
        taken("in another order", b"code,userId\nZQ1,ana\nuserId,code\nZQ2,ben\n", "ZQ1=ana ZQ2=ben", again),
        taken("alone in its file", b"voucher\nZQ1\nVoucher\nZQ2\n", "ZQ1 ZQ2", again),
        taken(
            "in other words",
            "code,user\nZQ1,ana\nCódigo,Usuario\nZQ2,ben\n".as_bytes(),
            "ZQ1=ana ZQ2=ben",
            again,
        ),
        taken("with quotes", b"\"code\";\"nota\"\nZQ1;x\n\"code\";\"nota\";;\nZQ2;y\n", "ZQ1 ZQ2", again),
    ]
}

fn invisible_characters() -> Vec<ImportCase> {
    let bad = &[(2, "bad_character")];
    vec![
        taken("a mark behind the name", "code\u{feff},userId\nZQ1,ana\n".as_bytes(), "ZQ1=ana", &[]),
        taken("a joiner in the name", "co\u{200d}de;user\u{2060}Id\nZQ1;ana\n".as_bytes(), "ZQ1=ana", &[]),
        taken("a soft hyphen in the name", "voucher\u{ad}code;x\nZQ1;y\n".as_bytes(), "ZQ1", &[]),
        taken("three marks", "\u{feff}\u{feff}\u{feff}code\nZQ1\n".as_bytes(), "ZQ1", &[]),
        taken("around a user", "code,userId\nZQ1,\u{200b}ana\u{feff} \n".as_bytes(), "ZQ1=ana", &[]),
        taken("inside a user", "code,userId\nZQ1,a\u{200b}na\n".as_bytes(), "", &[(2, "bad_user_id")]),
        taken("a direction mark in a code", "code\nZQ\u{200e}1\n".as_bytes(), "", bad),
        taken("a mark in a code", "code\n\u{feff}ZQ1\n".as_bytes(), "", bad),
        taken("a no-break space in a code", "code\nZQ\u{a0}1\n".as_bytes(), "", bad),
    ]
}

fn delimiters() -> Vec<ImportCase> {
    vec![
        taken("pipes", b"code|note|userId\nZQ1|a, b; c|ana\n", "ZQ1=ana", &[]),
        taken("tabs without a header", b"ZQ1\ta,b\nZQ2\tc,d\n", "ZQ1 ZQ2", &[]),
        taken("more commas than semicolons", b"code;a,b,c,d\nZQ1;x,y,z\n", "ZQ1", &[]),
        taken("more semicolons than commas", b"code,a;b;c;d\nZQ1,x\n", "ZQ1", &[]),
        taken("prices", b"ZQ1;1,50;2,50\nZQ2;1,75;2,75\n", "ZQ1 ZQ2", &[]),
        taken("code and valid", b"ZQAA,valid\nZQBB,valid\n", "ZQAA ZQBB", &[]),
        taken("quoted delimiters", b"\"ZQ1\";\"a,b\nc,d\"\n\"ZQ2\";\"e\"\n", "ZQ1 ZQ2", &[]),
    ]
}

fn blank_rows() -> Vec<ImportCase> {
    vec![
        taken("commas at the end", b"code,userId\nZQ1,ana\n,\n,\n", "ZQ1=ana", &[]),
        taken("commas in between", b"code,userId\nZQ1,ana\n,\n , \nZQ2,\n", "ZQ1=ana ZQ2", &[]),
        taken("tabs", b"code\tnote\nZQ1\tx\n\t\n\t\t\n", "ZQ1", &[]),
        taken("empty quotes", b"code;note\nZQ1;x\n\"\";\"\"\n\" \";\"\"\n", "ZQ1", &[]),
        taken("above the header", b";;\n;;\ncode;a;b\nZQ1;x;y\n", "ZQ1", &[]),
        taken("without a header", b"ZQ1;x\n;\n;;;\nZQ2;y\n", "ZQ1 ZQ2", &[]),
        taken("no code but a note", b"code;note\nZQ1;x\n;y\n", "ZQ1", &[(3, "empty")]),
    ]
}

fn padded_quotes() -> Vec<ImportCase> {
    vec![
        taken(
            "tab before quotes",
            b"code,\t\"city\",\t\"userId\"\nZQ1,\t\"Madrid, Spain\",\t\"ana\"\n",
            "ZQ1=ana",
            &[],
        ),
        taken(
            "blanks at the start of a record",
            b"  \"code\", \"userId\"\n  \"ZQ1\", \"ana\"\n",
            "ZQ1=ana",
            &[],
        ),
        taken("semicolons", b"code; city; userId\nZQ1; \"a; b\"; \"ana\"\n", "ZQ1=ana", &[]),
        taken("a line break", b"code, note\nZQ1, \"a\nb\"\nZQ2, x\n", "ZQ1 ZQ2", &[]),
        taken("a doubled quote", b"code, note, userId\nZQ1, \"a \"\"b\"\", c\", ana\n", "ZQ1=ana", &[]),
        taken("blanks behind quotes", b"\"code\" ,\"userId\" \n\"ZQ1\" ,\"ana\" \n", "ZQ1=ana", &[]),
    ]
}

fn stray_cells() -> Vec<ImportCase> {
    vec![
        taken(
            "an unquoted comma",
            b"code,city,userId\nZQ1,Madrid, Spain,ana\nZQ2,Madrid,ben\n",
            "ZQ2=ben",
            &[(2, "too_many_cells")],
        ),
        taken(
            "a cell behind empty ones",
            b"code;note\nZQ1;x;;;y\nZQ2;x;;;\n",
            "ZQ2",
            &[(2, "too_many_cells")],
        ),
        taken("behind a header of one column", b"code\nZQ1,x\nZQ2\n", "ZQ2", &[(2, "too_many_cells")]),
        taken(
            "delimiters at the end of the header",
            b"code;note;;\nZQ1;x;;y\nZQ2;x\n",
            "ZQ2",
            &[(2, "too_many_cells")],
        ),
        taken("missing cells", b"code,note,userId\nZQ1\nZQ2,x\nZQ3,x,ana\n", "ZQ1 ZQ2 ZQ3=ana", &[]),
    ]
}

fn limits() -> Vec<ImportCase> {
    let full = "user_limit_reached";
    vec![
        taken(
            "two of three",
            b"code,userId\nZQ1,ana\nZQ2,ana\nZQ3,ana\n",
            "ZQ1=ana ZQ2=ana ZQ3",
            &[(4, full)],
        )
        .limit(2),
        taken("spaces are no other user", b"code,userId\nZQ1,ana\nZQ2, ana \n", "ZQ1=ana ZQ2", &[(3, full)])
            .limit(1),
        taken(
            "a duplicate takes no place",
            b"code,userId\nZQ1,ana\nZQ1,ana\nZQ2,ana\nZQ3,ana\n",
            "ZQ1=ana ZQ2=ana ZQ3",
            &[(3, "duplicate_in_file"), (5, full)],
        )
        .limit(2),
        taken(
            "an invalid row takes no place",
            b"user;code\nana;x!\nana;ZQ1\nana;ZQ2\n",
            "ZQ1=ana ZQ2",
            &[(2, "bad_character"), (4, full)],
        )
        .limit(1),
        taken(
            "others are not concerned",
            b"code;cliente\nZQ1;ana\nZQ2;ben\nZQ3;ana\nZQ4;eva\n",
            "ZQ1=ana ZQ2=ben ZQ3 ZQ4=eva",
            &[(4, full)],
        )
        .limit(1),
    ]
}

fn formulas() -> Vec<ImportCase> {
    let bad = "bad_character";
    vec![
        taken(
            "under a header",
            b"code\n=1+1\n+49\n@x\n\"\t=1\"\nZQ1\n",
            "ZQ1",
            &[(2, bad), (3, bad), (4, bad), (5, bad)],
        ),
        taken("an escaped code", b"code\n'-ZQ1\n", "-ZQ1", &[]),
        taken("an escaped user", b"code,userId\nZQ1,'+34600\n", "ZQ1=+34600", &[]),
        taken("an apostrophe of its own", b"code\n'ZQ1\n", "", &[(2, bad)]),
        taken("a formula for text", b"code;note\n=\"ZQ1\";x\nZQ2;=A1\n", "ZQ2", &[(2, bad)]),
    ]
}

fn headers_alone() -> Vec<ImportCase> {
    vec![
        rejected("one name", b"code", "empty_file"),
        rejected("blank rows below", b"code;userId\r\n;\r\n\r\n", "empty_file"),
        rejected("a title above", b"Lista;\ncode;userId\n", "empty_file"),
        rejected("a line sep above", b"sep=;\r\nC\xC3\xB3digo;Usuario\r\n", "empty_file"),
        rejected("nothing but delimiters", b";;;\r\n;;;\r\n", "empty_file"),
    ]
}

fn unclear() -> Vec<ImportCase> {
    vec![
        rejected("unknown names", b"TYPE,AMOUNT\nZQ1,10\nZQ2,20\n", "unclear_header"),
        rejected("one unknown name", b"FLAT\nZQ1\nZQ2\n", "unclear_header"),
        rejected("an unknown name with a digit", b"Col1\nZQ1\nZQ22\n", "unclear_header"),
        rejected("users without codes", b"userId;serial\nana;ZQ1\n", "unclear_header"),
        rejected("two columns of codes", b"code,voucher\nZQ1,ZQ2\n", "unclear_header"),
        rejected("two columns of users", b"code,user,customer id\nZQ1,ana,ben\n", "unclear_header"),
        rejected("one name twice", b"code,Nota,nota\nZQ1,a,b\n", "unclear_header"),
        rejected("one year above", b"2027\nZQ1\n", "unclear_header"),
        rejected("another alphabet", "Купон;Имя\nZQ1;Анна\n".as_bytes(), "unclear_header"),
    ]
}

fn explicit_options() -> Vec<ImportCase> {
    vec![
        taken("a header there is", b"FLAT\nZQ1\n", "ZQ1", &[]).with(&[("header", "true")]),
        taken("no header there is", b"ZQAB\nZQ1\n", "ZQAB ZQ1", &[]).with(&[("header", "false")]),
        taken("by name", b"Type,Serial No\nx,ZQ1\n", "ZQ1", &[]).with(&[("codeColumn", "serial no")]),
        taken("by number", b"x;ZQ1;ana\ny;ZQ2;ben\n", "ZQ1=ana ZQ2=ben", &[])
            .with(&[("codeColumn", "2"), ("userColumn", "3")]),
        taken("one of two", b"code,voucher\nx!,ZQ1\n", "ZQ1", &[]).with(&[("codeColumn", "voucher")]),
        taken("the delimiter", b"ZQ1|a;b\nZQ2|c;d\n", "ZQ1 ZQ2", &[]).with(&[("delimiter", "pipe")]),
        rejected("a column that is not there", b"code,x\nZQ1,y\n", "unclear_header")
            .with(&[("userColumn", "holder")]),
        rejected("a number too high", b"code,x\nZQ1,y\n", "unclear_header").with(&[("codeColumn", "3")]),
        rejected("a delimiter of another kind", b"code\nZQ1\n", "invalid").with(&[("delimiter", ":")]),
    ]
}

/// Files without a special feature.
fn sound() -> Vec<ImportCase> {
    vec![
        taken("one code a line", b"ZQ1\nZQ2\r\nZQ3", "ZQ1 ZQ2 ZQ3", &[]),
        taken(
            "duplicates",
            b"code\nZQ1\nzq1\n ZQ1 \n",
            "ZQ1",
            &[(3, "duplicate_in_file"), (4, "duplicate_in_file")],
        ),
        taken(
            "too short and too long",
            b"code\nAB\nZQ1\nXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX\n",
            "ZQ1",
            &[(2, "too_short"), (4, "too_long")],
        ),
        taken("metadata with a backslash", b"code,note\nZQ1,C:\\u0000\n", "ZQ1", &[]),
    ]
}
