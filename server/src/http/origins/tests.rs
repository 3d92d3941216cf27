use super::*;

fn settings(origins: &[&str], hosts: &[&str]) -> BrowserSettings {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    BrowserSettings::parse(&owned(origins), &owned(hosts)).expect("settings")
}

fn refused(settings: &BrowserSettings, headers: &[(&'static str, &str)]) -> bool {
    refused_as(&Method::POST, settings, headers)
}

fn refused_as(
    method: &Method,
    settings: &BrowserSettings,
    headers: &[(&'static str, &str)],
) -> bool {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().expect("a value"));
    }
    settings.refuse(method, &Uri::from_static("/embed"), &map)
}

#[test]
fn requests_of_no_browser_are_not_judged() {
    for host in ["evil.example", "localhost:8080", ""] {
        assert!(!refused(&settings(&[], &[]), &[("host", host), ("content-type", "text/plain")]));
    }
    assert!(!refused(&settings(&[], &[]), &[]));
}

#[test]
fn a_page_of_the_server_itself_may_if_the_name_cannot_be_anothers() {
    let none = settings(&[], &[]);
    for host in
        ["localhost:8080", "127.0.0.1:8080", "127.8.8.8:8080", "[::1]:8080", "a.localhost:8080"]
    {
        let origin = format!("http://{host}");
        assert!(!refused(&none, &[("host", host), ("origin", &origin)]), "{host}");
        for site in ["same-origin", "none"] {
            assert!(!refused(&none, &[("host", host), ("sec-fetch-site", site)]), "{host}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert!(refused(&none, &[("host", host), ("sec-fetch-site", site)]), "{host} {site}");
            let both = [("host", host), ("origin", origin.as_str()), ("sec-fetch-site", site)];
            assert!(refused(&none, &both), "{host} {site}");
        }
    }
    // The page's own name resolves to this machine (DNS rebinding), or is an address.
    for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.7:8080", "notlocalhost"] {
        let origin = format!("http://{host}");
        assert!(refused(&none, &[("host", host), ("origin", &origin)]), "{host}");
        assert!(refused(&none, &[("host", host), ("sec-fetch-site", "same-origin")]), "{host}");
        assert!(refused(&none, &[("host", host), ("sec-fetch-site", "none")]), "{host}");
    }
}

#[test]
fn a_page_of_elsewhere_may_not() {
    let none = settings(&[], &[]);
    for origin in ["https://evil.example", "http://localhost:3000", "null", "", "file://"] {
        assert!(refused(&none, &[("host", "localhost:8080"), ("origin", origin)]), "{origin}");
    }
    assert!(refused(&none, &[("origin", "http://localhost:8080")]), "without a host");
}

#[test]
fn a_link_may_be_followed_to_the_server() {
    let none = settings(&[], &[]);
    let visit = |host| {
        [
            ("host", host),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ]
    };
    for method in [Method::GET, Method::HEAD] {
        assert!(!refused_as(&method, &none, &visit("localhost:8080")), "{method}");
        // The name may belong to the other page.
        assert!(refused_as(&method, &none, &visit("evil.example:8080")), "{method}");
        let named = settings(&[], &["embed.example"]);
        assert!(!refused_as(&method, &named, &visit("embed.example")), "{method}");
        // What another page fetches, shows in a frame or loads as an image is not a visit.
        for (index, value) in [(2, "no-cors"), (2, "cors"), (3, "iframe"), (3, "image"), (3, "")] {
            let mut headers = visit("localhost:8080");
            headers[index].1 = value;
            assert!(refused_as(&method, &none, &headers), "{method} {value}");
        }
        let mut with_origin = visit("localhost:8080").to_vec();
        with_origin.push(("origin", "https://evil.example"));
        assert!(refused_as(&method, &none, &with_origin), "{method}");
    }
    // A form that is submitted.
    for method in [Method::POST, Method::PUT, Method::OPTIONS, Method::DELETE] {
        assert!(refused_as(&method, &none, &visit("localhost:8080")), "{method}");
    }
}

#[test]
fn allowed_origins_may_at_any_host() {
    let some = settings(&["https://App.example:443/", "http://localhost:3000", "null"], &[]);
    for origin in ["https://app.example", "http://localhost:3000", "null"] {
        let headers = [("host", "10.0.0.7"), ("origin", origin), ("sec-fetch-site", "cross-site")];
        assert!(!refused(&some, &headers), "{origin}");
    }
    for origin in ["https://app.example:444", "http://app.example", "https://sub.app.example"] {
        assert!(refused(&some, &[("host", "10.0.0.7"), ("origin", origin)]), "{origin}");
    }
    let all = settings(&["*"], &[]);
    assert!(!refused(&all, &[("host", "a"), ("origin", "https://evil.example")]));
    assert!(!refused(&all, &[("host", "a"), ("sec-fetch-site", "cross-site")]));
}

#[test]
fn allowed_hosts_are_names_of_the_server() {
    let some = settings(&[], &["Embed.example", "10.0.0.7:8080"]);
    for (host, origin) in [
        ("embed.example", "https://embed.example"),
        ("embed.example:8080", "http://embed.example:8080"),
        ("10.0.0.7:8080", "http://10.0.0.7:8080"),
    ] {
        assert!(!refused(&some, &[("host", host), ("origin", origin)]), "{host}");
        assert!(refused(&some, &[("host", host), ("origin", "http://other.example")]), "{host}");
    }
    let other_port = [("host", "10.0.0.7:9090"), ("origin", "http://10.0.0.7:9090")];
    assert!(refused(&some, &other_port));
}

#[test]
fn invalid_origins_and_hosts_are_refused_at_startup() {
    let parse = |origin: &str, host: &str| BrowserSettings::parse(&[origin.into()], &[host.into()]);
    for origin in ["example.com", "https://example.com/path", "https://*.example.com/?", "https://"]
    {
        let error = parse(origin, "a").expect_err(origin);
        assert!(error.contains("cors-allow-origin"), "{error}");
    }
    for host in ["", "http://a", "a/b", "me@a"] {
        let error = parse("https://a", host).expect_err(host);
        assert!(error.contains("allowed-host"), "{error}");
    }
    let extension = parse("chrome-extension://abcdef", "a").expect("an origin");
    assert_eq!(extension.origins, Origins::These(vec!["chrome-extension://abcdef".into()]));
}
