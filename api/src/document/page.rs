//! The page at `/docs`: Swagger UI as the framework carries it, so nothing is fetched from elsewhere, over the completed
//! document.

use super::DOCUMENT;

/// The page, as HTML.
pub(crate) fn page() -> String {
    let service = crate::routes::service();
    // In a script, `</` could end it.
    let document = DOCUMENT.value.to_string().replace("</", "<\\/");
    service
        .swagger_ui_html()
        .replacen(&service.spec(), &document, 1)
        .replacen("<html charset=\"UTF-8\">", "<!doctype html>\n<html lang=\"en\">", 1)
        .replacen("<title>Swagger UI</title>", "<title>Cuponera API</title>", 1)
        .replacen("deepLinking: true,", OPTIONS, 1)
}

/// Tags open and schemas closed, answers timed, credentials kept over a reload, and nobody asked elsewhere whether the
/// document is valid.
const OPTIONS: &str = "deepLinking: true, docExpansion: 'list', defaultModelsExpandDepth: 0, \
                       displayRequestDuration: true, persistAuthorization: true, tryItOutEnabled: true, \
                       validatorUrl: null,";
