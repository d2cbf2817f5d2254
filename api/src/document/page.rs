//! The page at `/docs`: Swagger UI for the completed document. Its files are those that poem-openapi embeds; the page
//! loads nothing from other hosts.

use super::DOCUMENT;

pub(crate) fn page() -> String {
    let service = crate::routes::service();
    // `</` could end the script element.
    let document = DOCUMENT.value.to_string().replace("</", "<\\/");
    service
        .swagger_ui_html()
        .replacen(&service.spec(), &document, 1)
        .replacen("<html charset=\"UTF-8\">", "<!doctype html>\n<html lang=\"en\">", 1)
        .replacen("<title>Swagger UI</title>", "<title>Cuponera API</title>", 1)
        .replacen("deepLinking: true,", OPTIONS, 1)
}

/// Expanded tags, collapsed schemas, request durations, credentials that survive a reload, and no validation by an
/// external service.
const OPTIONS: &str = "deepLinking: true, docExpansion: 'list', defaultModelsExpandDepth: 0, \
                       displayRequestDuration: true, persistAuthorization: true, tryItOutEnabled: true, \
                       validatorUrl: null,";
