//! Answers: always a JSON object, since an engine takes an empty body for a broken connection.

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::wire::Failure;

/// What plugins customarily answer with.
const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.1+json";

/// Makes answers.
pub(super) struct Reply;

impl Reply {
    /// A success.
    pub(super) fn ok(value: &impl Serialize) -> Response {
        Self::json(StatusCode::OK, value)
    }

    /// A failure, with the keys of both protocols.
    pub(super) fn error(status: u16, message: &str) -> Response {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::json(status, &Failure { err: message.to_owned(), error: message.to_owned() })
    }

    /// A path that does not exist.
    pub(super) fn not_found(message: &str) -> Response {
        Self::error(404, &format!("rs-overlay: {message}"))
    }

    fn json(status: StatusCode, value: &impl Serialize) -> Response {
        let text = serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned());
        (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], Body::from(text)).into_response()
    }
}
