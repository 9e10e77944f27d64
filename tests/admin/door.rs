//! Who is let as far as the token: names, and addresses that have not guessed too often.

use crate::gateway::{Gateway, TOKEN};

/// A GET with exactly these header lines.
async fn get(gateway: &Gateway, path: &str, lines: &str) -> crate::gateway::Got {
    gateway.send(&format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{lines}\r\n")).await
}

#[tokio::test]
async fn a_name_that_nobody_allowed_is_not_served_even_with_the_token() {
    let gateway = Gateway::start().await;
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    for host in ["evil.example", "localhost.evil.example:8081", "10.9.9.9", "user@localhost"] {
        let got = get(&gateway, "/api/v1/counters", &format!("host: {host}\r\n{bearer}")).await;
        assert!(got.problem(421).contains("admin.hosts"), "{host}");
        get(&gateway, "/api/v1/no/such/path", &format!("host: {host}\r\n")).await.problem(421);
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]", "Admin.Example:8081"] {
        let got = get(&gateway, "/api/v1/counters", &format!("host: {host}\r\n{bearer}")).await;
        assert_eq!(got.status, 200, "{host}");
    }
    assert_eq!(get(&gateway, "/livez", "host: evil.example\r\n").await.status, 200, "tells nothing");
}

#[tokio::test]
async fn who_guesses_must_wait_and_nobody_else() {
    let gateway = Gateway::start().await;
    let guess = format!("host: localhost\r\nauthorization: Bearer {TOKEN}x\r\n");
    for _ in 0..10 {
        get(&gateway, "/api/v1/counters", &guess).await.problem(401);
        get(&gateway, "/api/v1/counters", "host: localhost\r\n").await.problem(401);
    }
    let right = format!("host: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
    for lines in [&guess, &right] {
        let got = get(&gateway, "/api/v1/counters", lines).await;
        got.problem(429);
        let seconds: u64 = got.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=7).contains(&seconds), "{seconds}");
    }
    // From another address the right one is let in as ever.
    let request = format!("GET /api/v1/counters HTTP/1.1\r\nconnection: close\r\n{right}\r\n");
    assert_eq!(gateway.send_from("127.0.0.2".parse().unwrap(), &request).await.status, 200);
}
