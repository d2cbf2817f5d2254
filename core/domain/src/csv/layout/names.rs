//! The known names of columns of codes and users, and how names are compared.

use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::text::is_control_or_format;

/// Names of the column of codes. `docs/import.md` contains the list.
pub const CODE_NAMES: &[&str] = &[
    // English
    "code",
    "codes",
    "coupon",
    "coupons",
    "coupon code",
    "coupon codes",
    "coupon number",
    "voucher",
    "vouchers",
    "voucher code",
    "voucher codes",
    "voucher number",
    "promo code",
    "promo codes",
    "promotion code",
    "promotional code",
    "discount code",
    "discount codes",
    "offer code",
    "redemption code",
    "gift code",
    "gift card code",
    "gift card number",
    // Spanish
    "código",
    "códigos",
    "código cupón",
    "código de cupón",
    "código del cupón",
    "código promocional",
    "código de promoción",
    "código de descuento",
    "código de regalo",
    "código de canje",
    "código vale",
    "código de vale",
    "cupón",
    "cupones",
    "vale",
    "vales",
    "clave",
    "claves",
    // Portuguese
    "cupom",
    "cupons",
    "código cupom",
    "código do cupom",
    "código de cupom",
    "código de desconto",
    // French
    "code promo",
    "code promotionnel",
    "code coupon",
    "code de réduction",
    "code réduction",
    "code cadeau",
    "code avantage",
    // German
    "Gutschein",
    "Gutscheine",
    "Gutscheincode",
    "Gutscheinnummer",
    "Rabattcode",
    "Aktionscode",
    // Italian
    "codice",
    "codici",
    "codice coupon",
    "codice sconto",
    "codice promozionale",
    "buono",
];

/// Names of the column of users. `docs/import.md` contains the list.
pub const USER_NAMES: &[&str] = &[
    // English
    "user",
    "user id",
    "user identifier",
    "holder",
    "holder id",
    "customer",
    "customer id",
    "client",
    "client id",
    "member",
    "member id",
    "assigned to",
    // Spanish
    "usuario",
    "usuario id",
    "id usuario",
    "id de usuario",
    "id del usuario",
    "identificador de usuario",
    "cliente",
    "cliente id",
    "id cliente",
    "id de cliente",
    "id del cliente",
    "titular",
    "asignado a",
    // Portuguese
    "id do usuário",
    "id do cliente",
    // French
    "utilisateur",
    "id utilisateur",
    "id client",
    "titulaire",
    // German
    "Benutzer",
    "Benutzer-ID",
    "Kunde",
    "Kunden-ID",
    "Kundennummer",
    "Nutzer",
    "Nutzer-ID",
    // Italian
    "utente",
    "id utente",
];

/// Folds a column name for comparison: ignores case, accents, blanks, `_`, `-` and invisible characters.
pub(in crate::csv) fn fold(name: &str) -> String {
    if name.is_ascii() {
        let is_kept = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'_' | b'-');
        return name.bytes().filter(is_kept).map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    }
    let is_ignored = |character: &char| {
        is_combining_mark(*character)
            || character.is_whitespace()
            || matches!(character, '_' | '-')
            || is_control_or_format(*character)
    };
    name.nfkd().filter(|character| !is_ignored(character)).flat_map(char::to_lowercase).collect()
}

/// Whether this folded name is a name of the column of codes.
pub(in crate::csv) fn is_code_name(folded: &str) -> bool {
    static FOLDED: LazyLock<Vec<String>> = LazyLock::new(|| fold_all(CODE_NAMES));
    FOLDED.binary_search_by(|name| name.as_str().cmp(folded)).is_ok()
}

/// Whether this folded name is a name of the column of users.
pub(in crate::csv) fn is_user_name(folded: &str) -> bool {
    static FOLDED: LazyLock<Vec<String>> = LazyLock::new(|| fold_all(USER_NAMES));
    FOLDED.binary_search_by(|name| name.as_str().cmp(folded)).is_ok()
}

/// Whether this folded name is a name of the column of codes or of users.
pub(in crate::csv) fn is_column_name(folded: &str) -> bool {
    is_code_name(folded) || is_user_name(folded)
}

fn fold_all(names: &[&str]) -> Vec<String> {
    let mut folded: Vec<String> = names.iter().map(|name| fold(name)).collect();
    folded.sort_unstable();
    folded
}
