"""Mutations of pages and of the server that watches a training."""

from __future__ import annotations

from mutation import Mutation

SERVER = "replay/webpage/server.py"
TEMPLATE = "replay/webpage/template.py"
SERVING = "tests/replay/webpage/test_server.py::"
CLIENTS = "tests/replay/webpage/test_server_clients.py::"
DOCUMENT = "tests/replay/webpage/test_document.py::"

MUTATIONS = (
    Mutation(
        "watch-for-everybody",
        "Only this computer can connect to a page that is watched.",
        SERVER,
        '        super().__init__(("127.0.0.1", port), handler)\n',
        '        super().__init__(("0.0.0.0", port), handler)\n',
        CLIENTS + "test_only_this_computer_can_connect",
    ),
    Mutation(
        "host-not-checked",
        "A page elsewhere that has its own name point here is turned away.",
        SERVER,
        '            if host not in ("127.0.0.1", "localhost") or (said or "80") != str(port):\n',
        "            if False:\n",
        SERVING + "test_another_name_for_this_computer_is_turned_away",
    ),
    Mutation(
        "port-not-checked",
        "A name with another port is turned away.",
        SERVER,
        ' or (said or "80") != str(port):\n',
        ":\n",
        SERVING + "test_another_name_for_this_computer_is_turned_away",
    ),
    Mutation(
        "other-pages-may-read",
        "No other page may read what is watched.",
        SERVER,
        '                "Cross-Origin-Resource-Policy": "same-origin",\n',
        "",
        SERVING + "test_the_page_may_ask_its_own_server_only",
    ),
    Mutation(
        "may-be-framed",
        "No other page can show the watched one in a frame.",
        SERVER,
        '                "X-Frame-Options": "DENY",\n',
        "",
        CLIENTS + "test_no_other_page_may_frame_it_or_guess_what_it_is",
    ),
    Mutation(
        "any-number-of-clients",
        "Clients take a bounded number of threads.",
        SERVER,
        "        if self._room.acquire(blocking=False):\n",
        "        if self._room.acquire(blocking=False) or True:\n",
        CLIENTS + "test_idle_clients_take_a_bounded_number_of_threads",
    ),
    Mutation(
        "idle-clients-stay",
        "A client that says nothing is let go.",
        SERVER,
        "        timeout = _IDLE_SECONDS\n",
        "",
        CLIENTS + "test_an_idle_client_is_let_go",
    ),
    Mutation(
        "nonsense-unanswered",
        "A request that is no request is answered, and nothing is said in the terminal.",
        SERVER,
        "            except ValueError:\n"
        '                self._answer(HTTPStatus.BAD_REQUEST, b"no address", "text/plain")\n'
        "                return\n",
        "            except KeyError:\n                return\n",
        CLIENTS + "test_nonsense_is_answered",
    ),
    Mutation(
        "gone-clients-said",
        "A client that goes away is not worth a word.",
        SERVER,
        "        if not isinstance(error, OSError):\n",
        "        if True:\n",
        CLIENTS + "test_clients_that_go_away_are_not_worth_a_word",
    ),
    Mutation(
        "page-data-not-escaped",
        "No name from a file ends the script block that it stands in.",
        TEMPLATE,
        '    data = data.replace("<", "\\\\u003c")\n',
        "",
        DOCUMENT + "test_names_from_a_file_are_never_markup",
    ),
    Mutation(
        "page-title-not-escaped",
        "A title is never markup.",
        TEMPLATE,
        '"TITLE", html.escape(title), 1',
        '"TITLE", title, 1',
        DOCUMENT + "test_names_from_a_file_are_never_markup",
    ),
    Mutation(
        "page-may-load-anything",
        "A page loads nothing from elsewhere.",
        TEMPLATE,
        "        f\"default-src 'none'; script-src",
        '        f"default-src *; script-src',
        DOCUMENT + "test_the_policy_lets_in_nothing_but_the_pages_own_code",
    ),
    Mutation(
        "page-runs-any-script",
        "A page runs no script but its own.",
        TEMPLATE,
        "script-src '{script}'",
        "script-src 'unsafe-inline'",
        DOCUMENT + "test_the_policy_lets_in_nothing_but_the_pages_own_code",
    ),
    Mutation(
        "notebook-not-escaped",
        "No name from a file is markup in a notebook.",
        "replay/html.py",
        "    return html.escape(shown)\n",
        "    return shown\n",
        "tests/replay/test_notebook.py::test_names_are_escaped_and_the_size_is_bounded",
    ),
    Mutation(
        "numbers-outlive-their-frames",
        "A page is told where frames were numbered anew.",
        "replay/webpage/live.py",
        "                self._renumbered += 1\n",
        "",
        "tests/replay/webpage/test_server.py"
        "::test_frames_that_were_taken_out_are_numbered_anew_and_the_page_is_told",
    ),
)
