//! Changing configurations over HTTP (`control-plane.md` §4.4, §5.4, §9).

mod support;

use http::StatusCode;

use self::support::{
    Gateway,
    http::{Answer, ask},
};

const BASIN: (&str, &str) = ("s2-basin", "my-basin-01");
const JSON: (&str, &str) = ("content-type", "application/json");

async fn gateway(basin_config: &str) -> Gateway {
    let gateway = Gateway::start().await;
    let body = format!(r#"{{"basin":"my-basin-01","config":{basin_config}}}"#);
    assert_eq!(ask(&gateway, "POST", "/v1/basins", &[JSON], &body).await.status, StatusCode::CREATED);
    gateway
}

async fn patch(gateway: &Gateway, path: &str, body: &str) -> Answer {
    ask(gateway, "PATCH", path, &[BASIN, JSON], body).await
}

/// Asserts that the change leaves this configuration behind, and that GET shows it, too.
async fn assert_becomes(gateway: &Gateway, path: &str, body: &str, expected: &str) {
    let answer = patch(gateway, path, body).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, expected), "{body}");
    assert_eq!(ask(gateway, "GET", path, &[BASIN], "").await.text, expected, "{body}");
}

#[tokio::test]
async fn a_basin_changes_setting_by_setting() {
    // control-plane.md §4.4, row by row.
    let gateway = gateway(
        r#"{"create_stream_on_append":true,"default_stream_config":{"storage_class":"standard","retention_policy":{"age":60},"timestamping":{"mode":"arrival"}}}"#,
    )
    .await;
    let config = |defaults: &str, on_append: bool, on_read: bool| {
        format!(
            r#"{{"default_stream_config":{defaults},"stream_cipher":null,"create_stream_on_append":{on_append},"create_stream_on_read":{on_read}}}"#
        )
    };
    let before = r#"{"storage_class":"standard","retention_policy":{"age":60},"timestamping":{"mode":"arrival","uncapped":null},"delete_on_empty":null}"#;
    let path = "/v1/basins/my-basin-01";
    for (body, expected) in [
        ("{}", config(before, true, false)),
        (r#"{"create_stream_on_append":null,"create_stream_on_read":null}"#, config(before, true, false)),
        (r#"{"create_stream_on_append":false,"create_stream_on_read":true}"#, config(before, false, true)),
        (r#"{"stream_cipher":null}"#, config(before, false, true)),
        (
            r#"{"default_stream_config":{"timestamping":{"uncapped":true},"retention_policy":null}}"#,
            config(
                r#"{"storage_class":"standard","retention_policy":null,"timestamping":{"mode":"arrival","uncapped":true},"delete_on_empty":null}"#,
                false,
                true,
            ),
        ),
        (
            r#"{"default_stream_config":{"timestamping":null,"delete_on_empty":{"min_age_secs":9}}}"#,
            config(
                r#"{"storage_class":"standard","retention_policy":null,"timestamping":null,"delete_on_empty":{"min_age_secs":9}}"#,
                false,
                true,
            ),
        ),
        (r#"{"default_stream_config":null}"#, config("null", false, true)),
    ] {
        assert_becomes(&gateway, path, body, &expected).await;
    }
}

#[tokio::test]
async fn a_stream_changes_setting_by_setting_and_falls_back_on_its_basin() {
    // control-plane.md §5.4, row by row.
    let gateway =
        gateway(r#"{"default_stream_config":{"retention_policy":{"age":60},"timestamping":{"uncapped":true}}}"#).await;
    let stream = r#"{"stream":"orders","config":{"retention_policy":{"infinite":{}},"timestamping":{"mode":"arrival","uncapped":false}}}"#;
    assert_eq!(ask(&gateway, "POST", "/v1/streams", &[BASIN, JSON], stream).await.status, StatusCode::CREATED);
    let config = |policy: &str, mode: &str, uncapped: bool, min_age: u64| {
        format!(
            r#"{{"storage_class":"express","retention_policy":{policy},"timestamping":{{"mode":"{mode}","uncapped":{uncapped}}},"delete_on_empty":{{"min_age_secs":{min_age}}}}}"#
        )
    };
    let path = "/v1/streams/orders";
    for (body, expected) in [
        ("{}", config(r#"{"infinite":{}}"#, "arrival", false, 0)),
        (r#"{"delete_on_empty":{"min_age_secs":7}}"#, config(r#"{"infinite":{}}"#, "arrival", false, 7)),
        (r#"{"timestamping":{"mode":null}}"#, config(r#"{"infinite":{}}"#, "client-prefer", false, 7)),
        (r#"{"timestamping":null}"#, config(r#"{"infinite":{}}"#, "client-prefer", true, 7)),
        (r#"{"retention_policy":null,"delete_on_empty":null}"#, config(r#"{"age":60}"#, "client-prefer", true, 0)),
    ] {
        assert_becomes(&gateway, path, body, &expected).await;
    }
    // The basin's current defaults, not those at the stream's making.
    patch(&gateway, "/v1/basins/my-basin-01", r#"{"default_stream_config":{"retention_policy":{"age":99}}}"#).await;
    assert_becomes(&gateway, path, "{}", &config(r#"{"age":60}"#, "client-prefer", true, 0)).await;
    let reset = config(r#"{"age":99}"#, "client-prefer", true, 0);
    assert_becomes(&gateway, path, r#"{"retention_policy":null}"#, &reset).await;
}

#[tokio::test]
async fn what_cannot_be_changed_is_told() {
    // control-plane.md §9, errors.md §4.1
    let gateway = gateway("{}").await;
    ask(&gateway, "PUT", "/v1/streams/orders", &[BASIN], "").await;
    for (path, body, status, code) in [
        ("/v1/basins/other-basin", "{}", 404, "basin_not_found"),
        ("/v1/basins/my-basin-01", r#"{"default_stream_config":{"retention_policy":{"age":0}}}"#, 422, "invalid"),
        ("/v1/basins/my-basin-01", "", 400, "bad_json"),
        ("/v1/basins/my-basin-01", "null", 400, "bad_json"),
        ("/v1/basins/no", "{}", 400, "bad_path"),
        ("/v1/streams/none", "{}", 404, "stream_not_found"),
        ("/v1/streams/orders", r#"{"retention_policy":{"age":0}}"#, 422, "invalid"),
        ("/v1/streams/orders", r#"{"retention_policy":{"age":-1}}"#, 400, "bad_json"),
        ("/v1/streams/orders", r#"{"timestamping":{"mode":"other"}}"#, 400, "bad_json"),
    ] {
        let answer = patch(&gateway, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {body}: {}", answer.text);
        assert!(answer.text.contains(&format!("\"code\":\"{code}\"")), "{path} {body}: {}", answer.text);
    }
    let no_type = ask(&gateway, "PATCH", "/v1/streams/orders", &[BASIN], "{}").await;
    assert!(no_type.text.contains("bad_json"), "{}", no_type.text);
    let other_basin = [("s2-basin", "other-basin"), JSON];
    let answer = ask(&gateway, "PATCH", "/v1/streams/orders", &other_basin, "{}").await;
    assert!(answer.text.contains("basin_not_found"), "{}", answer.text);
    let answer = ask(&gateway, "POST", "/v1/streams/orders", &[BASIN], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET, PUT, PATCH, DELETE")));
}
