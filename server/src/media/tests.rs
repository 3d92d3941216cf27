use super::*;

fn fetcher(file_bytes_max: usize) -> MediaFetcher {
    MediaFetcher::new(&MediaSettings { file_bytes_max, ..MediaSettings::default() })
}

#[tokio::test]
async fn base64_is_read_in_every_form_it_is_sent_in() {
    let bytes = [0xfb, 0xff, 0xfe, 0x00, 0x10];
    for text in [
        "+//+ABA=",
        "+//+ABA",
        "-__-ABA=",
        "-__-ABA",
        " +//+\r\nABA=\n",
        "+//+ABB=",
        "data:image/png;base64,+//+ABA=",
        "DATA:;BASE64,-__-ABA",
        "data:image/svg+xml;charset=utf-8;base64,+//+ ABA=",
        "  data:;base64,\n+//+ABA=\n",
    ] {
        let file = fetcher(5).file(text).await.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(file.bytes(), bytes, "{text:?}");
    }
}

#[tokio::test]
async fn what_is_no_source_is_refused_with_a_sentence() {
    for (text, expected) in [
        ("", "empty"),
        (" \n", "empty"),
        ("data:image/png;base64,", "empty"),
        ("====", "empty"),
        ("data:image/png,%89PNG", "not in base64"),
        ("data:base64,AAAA", "not in base64"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,AA%3D%3D", "not base64"),
        ("image.png", "not base64"),
        ("A", "not base64"),
        ("AA=A", "not base64"),
        ("AAAA=====", "not base64"),
        ("Ä:b", "neither"),
        ("1:b", "neither"),
        ("https://example.com/a.png", "--media-allow"),
    ] {
        let error = fetcher(100).file(text).await.expect_err(text);
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
        assert!(error.is_fault_of_caller() && !error.is_retryable());
    }
}

#[tokio::test]
async fn files_are_as_large_as_allowed_and_no_larger() {
    let limit = SourceError::TooLarge { limit: 4 };
    for text in ["AAAAAA==", "AAAAAA", "data:;base64,AAAA\nAA=="] {
        assert!(fetcher(4).file(text).await.is_ok(), "{text:?}");
    }
    for text in ["AAAAAAA=", "AAAAAAA", "data:;base64,AAAAAAAA"] {
        assert_eq!(fetcher(4).file(text).await, Err(limit.clone()), "{text:?}");
    }
    assert!(fetcher(4).bytes(vec![0; 4]).is_ok());
    assert_eq!(fetcher(4).bytes(vec![0; 5]), Err(limit));
}
