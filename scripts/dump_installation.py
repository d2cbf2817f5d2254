"""Fills an installation through its HTTP API and its command line, and dumps it: see dump-installation.sh.

    dump_installation.py PROGRAM COMMIT FOLDER

Rows that no call of the program can create, but that real installations have, are written with SQL as the program would
write them: events of earlier months, revoked and void codes, a lock that expired while no program ran, and a job that
stopped after one of its three chunks.
"""

import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ADMIN = {"email": "admin@dump.test", "password": "the admin of the dump"}
PASSWORD = "a password of the dump"
JWT_SECRET = "a secret that signs the access tokens of the dump"
PATIENCE_SECONDS = 120
A_DAY_SECONDS = 86_400


def eventually(what, condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"timed out waiting for {what}")
        time.sleep(0.05)
    return found


class Server:
    """`cuponera up` on a separate data folder, with one job at a time and no rate limits."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CUPONERA_")}
        environment |= {f"CUPONERA_RATE_LIMIT_{who}": "none" for who in ("ANONYMOUS", "USER", "SERVICE", "ADMIN")}
        self.environment = environment | {
            "CUPONERA_HTTP_ADDR": "127.0.0.1:0",
            "CUPONERA_DATA_DIR": str(folder),
            "CUPONERA_ADMIN_EMAIL": ADMIN["email"],
            "CUPONERA_ADMIN_PASSWORD": ADMIN["password"],
            "CUPONERA_JWT_SECRET": JWT_SECRET,
            "CUPONERA_WORKER_CONCURRENCY": "1",
            "CUPONERA_LOG": "warn",
        }
        self.process = subprocess.Popen(
            [program, "up"], env=self.environment, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
        self.base = self._address()
        pid_file = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
        self.postmaster = int(pid_file[0])
        password = (folder / "postgres.password").read_text().strip()
        self.database = {
            "PGHOST": "127.0.0.1", "PGPORT": pid_file[3].strip(), "PGUSER": "cuponera",
            "PGPASSWORD": password, "PGDATABASE": "cuponera", "PGTZ": "UTC",
        }  # fmt: skip

    def _address(self):
        for line in self.process.stdout:
            if found := re.search(r"API +(http://\S+)/api/v1", line):
                # The remaining output must be read, or the server blocks.
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return found[1]
        sys.exit("the server ended instead of serving")

    def run(self, *arguments, stdin=""):
        """Runs another command on the same data folder; returns its output."""
        done = subprocess.run(
            [self.program, *arguments], env=self.environment, input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"{arguments} failed: {done.stderr}{done.stdout}")
        return done.stdout

    def sql(self, text):
        """Runs statements in one transaction; returns the rows of the last one."""
        command = ["psql", "-X", "-q", "-A", "-t", "-1", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        done = subprocess.run(
            command, env=os.environ | self.database, input=text, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"{text}\nfailed: {done.stderr}")
        return done.stdout.split("\n")[:-1]

    @contextlib.contextmanager
    def codes_held(self):
        """Blocks jobs from adding codes meanwhile: a chunk is claimed and waits."""
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        holder = subprocess.Popen(
            command, env=os.environ | self.database, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        holder.stdin.write("begin; lock table coupon in share mode; select 'held';\n")
        holder.stdin.flush()
        if holder.stdout.readline().strip() != "held":
            sys.exit("the codes could not be held")
        yield
        holder.stdin.write("rollback;\n")
        holder.stdin.close()
        holder.wait()

    def kill(self):
        """Kills the program during its work; its Postgres keeps running."""
        self.process.kill()
        self.process.wait()

    def dump(self):
        command = ["pg_dump", "--inserts", "--rows-per-insert=500", "--no-owner", "--no-privileges"]
        done = subprocess.run(
            command, env=os.environ | self.database, capture_output=True, text=True, check=True
        )
        # Removes psql commands, and a setting that older servers do not have.
        lines = done.stdout.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(("\\", "SET transaction_timeout", "--")))

    def stop_postgres(self):
        os.kill(self.postmaster, signal.SIGINT)
        eventually("Postgres to stop", lambda: not (self.folder / "postgres" / "postmaster.pid").exists())


class Client:
    """A caller that expects a certain status."""

    def __init__(self, base, **headers):
        self.base, self.headers = base, {name.replace("_", "-"): value for name, value in headers.items()}

    def send(self, method, path, body=None, content_type="application/json", **headers):
        """Returns status and body of the answer; a string is sent unchanged."""
        if body is not None and not isinstance(body, str):
            body = compact(body)
        request = urllib.request.Request(
            f"{self.base}/api/v1/{path}",
            method=method,
            data=None if body is None else body.encode(),
            headers=self.headers | headers | ({} if body is None else {"Content-Type": content_type}),
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            status, text = answer.code, answer.read().decode()
        return status, json.loads(text) if text.startswith("{") else text

    def ask(self, method, path, body=None, expect=None, **options):
        status, answer = self.send(method, path, body, **options)
        if status != expect if expect else status >= 300:
            sys.exit(f"{method} {path} {body}: {status} {answer}")
        return answer

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, body=None, **options):
        return self.ask("POST", path, {} if body is None else body, **options)

    def login(self, email, password=PASSWORD):
        return self.post("auth/login", {"email": email, "password": password})

    def with_token(self, session):
        return Client(self.base, Authorization=f"Bearer {session['accessToken']}")

    def status_of(self, job):
        return self.get(f"jobs/{job['id']}")["status"]

    def done(self, job, expect="SUCCEEDED"):
        eventually(f"{job} to be {expect}", lambda: self.status_of(job) == expect)
        return job["id"]

    def codes(self, book, status="AVAILABLE", limit=500):
        page = self.get(f"coupon-codes/book/{book}?status={status}&limit={limit}")
        return [code["code"] for code in page["data"]]


def compact(body):
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


class Filling:
    """The test data; `facts` is the data that a client of the installation keeps."""

    def __init__(self, server, facts):
        self.server, self.facts = server, facts
        self.nobody = Client(server.base)
        self.admin = self.nobody.with_token(self.nobody.login(ADMIN["email"], ADMIN["password"]))
        made = self.admin.post("api-keys", {"name": "A backend"})
        self.service = Client(server.base, X_API_Key=made["key"])
        facts["business"] = self.admin.get("auth/me")["businessId"]
        facts["keys"] = {"service": made["key"]}
        self.replays = facts["replays"] = []

    def all(self):
        self.callers()
        self.books()
        self.codes()
        self.coupons()
        self.spellings()
        self.idempotency()
        self.past()
        self.jobs()

    # Callers.

    def callers(self):
        admin, keys = self.admin, self.facts["keys"]
        keys["admin"] = admin.post("api-keys", {"name": "An admin's script", "role": "ADMIN"})["key"]
        revoked = admin.post("api-keys", {"name": "Lost"})
        keys["revoked"] = revoked["key"]
        admin.ask("DELETE", f"api-keys/{revoked['id']}")
        users = self.facts["users"] = {}
        for name in ("ana", "eva"):
            users[name] = self.user(f"{name}@dump.test", userId=name)
        users["gone"] = self.user("gone@dump.test", userId="gone")
        admin.ask("PATCH", f"users/{users['gone']['id']}", {"disabled": True})
        users["second"] = self.user("second@dump.test", role="ADMIN")
        users["nameless"] = self.user("nameless@dump.test")
        self.facts["logins"] = {
            "admin": self.nobody.login(ADMIN["email"], ADMIN["password"])["refreshToken"],
            "ana": self.login_refreshed("ana@dump.test"),
            "ended": self.login_ended("eva@dump.test"),
        }
        out = self.server.run(
            "admin", "create-business", "Another shop", "--admin-email", "other@dump.test", "--password-stdin",
            stdin=PASSWORD,
        )  # fmt: skip
        business = re.search(r"Business +(\S+)", out)[1]
        self.facts["otherBusiness"] = {"id": business, "email": "other@dump.test", "password": PASSWORD}
        self.other = self.nobody.with_token(self.nobody.login("other@dump.test"))

    def user(self, email, role="USER", **fields):
        body = {"email": email, "password": PASSWORD, "role": role} | fields
        made = self.admin.post("users", body)
        return {"id": made["id"], "email": email, "password": PASSWORD, "userId": made["userId"]}

    def login_refreshed(self, email):
        """A login whose first refresh token was used; returns the next one."""
        first = self.nobody.login(email)["refreshToken"]
        return self.nobody.post("auth/refresh", {"refreshToken": first})["refreshToken"]

    def login_ended(self, email):
        session = self.nobody.login(email)
        self.nobody.with_token(session).post("auth/logout")
        return session["refreshToken"]

    # Books and their codes.

    def books(self):
        books = self.facts["books"] = {}
        plain = {"metadata": {"campaign": "summer", "rate": 0.1}, "discount": {"type": "PERCENT", "value": 12.5}}
        rules = {
            "summer": {"maxCodesPerUser": 5, "maxRedeemsPerUser": 3, "totalCodesExpected": 6000} | plain,
            "checkout": {"requireLock": True, "lockTtlSeconds": 600, "startsAt": "2020-01-01T00:00:00Z"},
            "draft": {"description": "Not yet.\nWith a second line."},
            "paused": {},
            "closed": {},
            "expired": {"expiresAt": "2999-01-01T00:00:00Z"},
            "empty": {},
        }
        for name, fields in rules.items():
            books[name] = self.admin.post("coupon-books", {"name": f"The {name} book"} | fields)["id"]
        for name in ("summer", "checkout", "paused", "closed", "expired"):
            self.change(books[name], status="ACTIVE")
        body = {"name": "Their book", "maxRedeemsPerUser": 2}
        self.facts["otherBusiness"]["book"] = self.other.post("coupon-books", body)["id"]
        self.other.ask("PATCH", f"coupon-books/{self.facts['otherBusiness']['book']}", {"status": "ACTIVE"})

    def change(self, book, **fields):
        self.admin.ask("PATCH", f"coupon-books/{book}", fields)

    def codes(self):
        books, jobs = self.facts["books"], self.facts.setdefault("jobs", {})
        wanted = [("summer", 6000, "SUMMER-{XXXX}-{9999}"), ("checkout", 2000, None), ("draft", 500, "DRAFT-{XXXXXX}")]
        wanted += [("paused", 300, None), ("closed", 200, "{AAAA}-{9999}"), ("expired", 300, None)]
        for name, quantity, pattern in wanted:
            body = {"couponBookId": books[name], "quantity": quantity} | ({"pattern": pattern} if pattern else {})
            jobs[f"generated {name}"] = self.admin.done(self.admin.post("coupon-codes/generate", body))
        body = {"couponBookId": self.facts["otherBusiness"]["book"], "quantity": 300}
        self.other.done(self.other.post("coupon-codes/generate", body))
        jobs["imported"] = self.admin.done(self.upload("summer", self.file()))
        jobs["dry run"] = self.admin.done(self.upload("summer", self.file(), "&dryRun=true"))
        plain = "".join(f"PLAIN-{number:04}\n" for number in range(300)) + "PLAIN-0000\nno code!\n"
        jobs["imported plain"] = self.admin.done(self.upload("expired", plain))

    def file(self):
        """Rows with metadata and holders, duplicates, bad codes, bad holders, and holders over their limit."""
        rows = ["code;userId;shop;note"]
        rows += [f"VIP-{number:04};;Madrid;" for number in range(400)]
        rows += [f"HELD-{number:04};holder-{number % 40};Sevilla;\"a;b \"\"{number}\"\"\"" for number in range(120)]
        rows += [f"OVER-{number};holder-0;;" for number in range(5)]
        rows += ["VIP-0007;;again;", "x;;too short;", "BAD CODE;;;", "BAD-USER;bell\a;;", ";;no code;", "VIP-9999;;a;b;c"]
        return "\n".join(rows) + "\n"

    def upload(self, book, file, options=""):
        path = f"coupon-codes/upload?couponBookId={self.facts['books'][book]}{options}"
        return self.admin.post(path, file, content_type="text/csv")

    # Operations on codes.

    def coupons(self):
        coupons = self.facts["coupons"] = {}
        self.free = self.admin.codes(self.facts["books"]["summer"])
        ana = [self.give(user="ana") for _ in range(4)]
        self.call(ana[0], "redeem", "ana", reference="receipt-1", metadata={"till": 4, "total": 19.99})
        self.call(ana[1], "lock", "ana")
        self.call(ana[1], "unlock", "ana")
        lock = self.call(ana[2], "lock", "ana", ttlSeconds=A_DAY_SECONDS)
        for _ in range(3):
            self.call(ana[3], "redeem", "ana")
        coupons["ana"] = {"partlyUsed": ana[0], "unlocked": ana[1], "locked": ana[2], "lockId": lock["lockId"]}
        coupons["ana"]["redeemed"] = ana[3]
        short = self.give(user="eva")
        self.call(short, "lock", "eva", ttlSeconds=1)
        eventually("a lock to expire", lambda: self.service.get(f"coupons/{short}")["status"] == "ASSIGNED")
        coupons["expired"] = short
        for number in range(60):
            self.checkout(number)
        self.others_and_closed_books()

    def give(self, user, book="summer"):
        """A random code."""
        body = {"couponBookId": self.facts["books"][book], "userId": user}
        return self.service.post("assignments/random", body)["code"]

    def call(self, code, verb, user, **fields):
        return self.service.post(f"coupons/{code}/{verb}", {"userId": user} | fields)

    def checkout(self, number):
        user = f"buyer-{number}"
        code = self.give(user, "checkout")
        if number % 3:
            lock = self.call(code, "lock", user, ttlSeconds=A_DAY_SECONDS)["lockId"]
        if number % 3 == 1:
            self.call(code, "redeem", user, lockId=lock, reference=f"order-{number}")

    def others_and_closed_books(self):
        books, other = self.facts["books"], self.facts["otherBusiness"]
        for name in ("paused", "closed", "expired"):
            code = self.give("ana", name)
            self.facts["coupons"]["ana"][f"in {name}"] = code
        self.change(books["paused"], status="PAUSED")
        self.change(books["closed"], status="CLOSED")
        self.change(books["expired"], expiresAt="2021-01-01T00:00:00Z")
        # The same holder id in another business is a different holder.
        body = {"couponBookId": other["book"], "userId": "ana"}
        other["code"] = self.other.post("assignments/random", body)["code"]
        self.other.post(f"coupons/{other['code']}/redeem", {"userId": "ana"})

    def spellings(self):
        """Ids and an email with surrounding blanks, which this version does not trim."""
        users, spelled = self.facts["users"], self.facts.setdefault("spelled", {})
        users["bea"] = self.user("bea@dump.test", userId=" bea ")
        users["uma"] = self.user("uma@dump.test", userId="uma\u00a0")
        users["zoe"] = self.user("\ufeffzoe@dump.test", userId="zoe")
        for key, user in {
            "bea": " bea ", "ida": "ida\u200b", "kai": "kai", "kai with a blank": " kai",
            "leo before": " leo", "leo after": "leo ", "hidden": "ma\u200bx",
        }.items():  # fmt: skip
            assigned, locked = self.give(user), self.give(user)
            lock = self.call(locked, "lock", user, ttlSeconds=A_DAY_SECONDS)["lockId"]
            spelled[key] = {"userId": user, "assigned": assigned, "locked": locked, "lockId": lock}

    # Requests with an idempotency key, and their answers.

    def idempotency(self):
        books = self.facts["books"]
        ana = self.give("ivo")
        self.keyed("POST", "assignments/random", {"couponBookId": books["summer"], "userId": "ivo"})
        self.keyed("POST", f"coupons/{ana}/lock", {"userId": "ivo", "ttlSeconds": A_DAY_SECONDS})
        self.keyed("POST", f"coupons/{ana}/redeem", {"userId": "ivo", "reference": "order-7", "metadata": {"n": 1}})
        self.keyed("POST", f"coupons/{ana}/unlock", {"userId": "ivo"})
        self.keyed("POST", f"coupons/{self.free[0]}/redeem", {"userId": "nobody"})
        self.keyed("POST", f"assignments/{self.free[1]}", {"userId": "ivo"})
        self.keyed("POST", "coupon-books", {"name": "Made once", "expiresAt": "2999-01-01T00:00:00Z"})
        self.keyed("POST", "coupon-books", {"name": "Made too late", "expiresAt": "2020-01-01T00:00:00Z"})
        generation = {"couponBookId": books["draft"], "quantity": 50, "pattern": "DRAFT-{XXXXXX}"}
        job = self.keyed("POST", "coupon-codes/generate", generation)
        self.admin.done(job)
        account = {"email": " noa@dump.test", "password": PASSWORD, "role": "USER", "userId": " noa"}
        self.keyed("POST", "users", account, key="admin")

    def keyed(self, method, path, body, key="service"):
        body, name = compact(body), f"key-{len(self.replays)}"
        client = Client(self.server.base, X_API_Key=self.facts["keys"][key])
        status, answer = client.send(method, path, body, **{"Idempotency-Key": name})
        replay = {"key": key, "idempotencyKey": name, "method": method, "path": path, "body": body}
        self.replays.append(replay | {"status": status, "answer": answer})
        return answer

    # Rows that only time or a future operation could create.

    def past(self):
        books = self.facts["books"]
        free = self.admin.codes(books["checkout"])
        void, revoked, month_old, year_old = free[:5], free[5:8], free[8:28], free[28:48]
        for code in revoked + void[:2]:
            self.service.post(f"assignments/{code}", {"userId": "rex"})
        for code in month_old + year_old:
            self.service.post(f"assignments/{code}", {"userId": f"old-{code}"})
            lock = self.call(code, "lock", f"old-{code}")["lockId"]
            self.call(code, "redeem", f"old-{code}", lockId=lock)
        self.facts["coupons"] |= {"void": void, "revoked": revoked, "monthOld": month_old, "yearOld": year_old}
        self.server.sql(SQL_VOID_AND_REVOKE.format(void=array(void), revoked=array(revoked), business=self.facts["business"]))
        self.server.sql(SQL_MONTH_BEFORE)
        for codes, age in ((month_old, "1 month"), (year_old, "1 year")):
            self.server.sql(SQL_AGE.format(codes=array(codes), age=age, business=self.facts["business"]))

    def jobs(self):
        jobs, books = self.facts["jobs"], self.facts["books"]
        generate = lambda book, quantity, pattern: self.admin.post(
            "coupon-codes/generate", {"couponBookId": books[book], "quantity": quantity, "pattern": pattern}
        )  # fmt: skip
        self.admin.done(self.upload("draft", "".join(f"TAKEN-{digit}\n" for digit in range(10))))
        jobs["failed"] = self.admin.done(generate("draft", 10, "TAKEN-{9}"), "FAILED")
        with self.server.codes_held():
            stopped = generate("draft", 20, "STOPPED-{XXXX}")
            eventually("a job to run", lambda: self.admin.status_of(stopped) == "RUNNING")
            waiting = generate("draft", 20, "WAITING-{XXXX}")
            for job in (stopped, waiting):
                self.admin.post(f"jobs/{job['id']}/cancel")
        jobs["cancelled"], jobs["cancelled early"] = stopped["id"], waiting["id"]
        half = self.admin.done(generate("draft", 40, "HALF-{XXXXXX}"))
        eventually("counts to be rolled up", lambda: self.server.sql("select count(*) from book_delta") == ["0"])
        with self.server.codes_held():
            running = generate("draft", 30, "RUNNING-{XXXX}")
            eventually("a job to run", lambda: self.admin.status_of(running) == "RUNNING")
            jobs["running"] = running["id"]
            jobs["queued"] = generate("draft", 30, "QUEUED-{XXXX}")["id"]
            jobs["queued import"] = self.upload("draft", "code,shop\nLATE-001,a\nLATE-002,b\nLATE-001,c\n")["id"]
            jobs["queued import with holders"] = self.upload("summer", "code,userId\nLATE-003,eva\nLATE-004,\n")["id"]
            self.server.kill()
        others = "select count(*) from pg_stat_activity where datname = 'cuponera' and pid <> pg_backend_pid()"
        eventually("the sessions to end", lambda: self.server.sql(others) == ["0"])
        lapsed = self.facts["coupons"]["lapsed"] = self.facts["coupons"]["ana"]["unlocked"]
        self.server.sql(SQL_LAPSED_LOCK.format(code=lapsed, business=self.facts["business"]))
        self.server.sql(SQL_HALF_DONE.format(job=half))
        jobs["half done"] = half


def array(codes):
    return "array[" + ", ".join(f"'{code}'" for code in codes) + "]"


# A void code keeps its holder, but no longer counts towards the holder's limit; a revoked code is free again.
SQL_VOID_AND_REVOKE = """
create temporary table step on commit drop as
  select c.*, c.code = any ({void}) as is_void from coupon c
  where c.business_id = '{business}' and c.code = any ({void} || {revoked});
insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, reason, actor)
  select gen_random_uuid(), business_id, book_id, position, version + 1, status,
         case when is_void then 'VOID' else 'AVAILABLE' end::coupon_status, case when is_void then 'VOID' else 'REVOKE' end,
         holder, 'a mistake', 'service:dump'
  from step;
insert into book_delta (book_id, available, assigned, void)
  select book_id, count(*) filter (where not is_void) - count(*) filter (where status = 'AVAILABLE'),
         -count(*) filter (where status = 'ASSIGNED'), count(*) filter (where is_void)
  from step group by book_id;
update user_quota q set held = q.held - s.places
  from (select book_id, holder, count(*) as places from step where holder is not null group by book_id, holder) s
  where q.book_id = s.book_id and q.user_id = s.holder;
update coupon c set version = c.version + 1, status = 'VOID'
  from step s where s.is_void and c.business_id = s.business_id and c.code = s.code;
update coupon c set version = c.version + 1, status = 'AVAILABLE', holder = null, assignment_id = null, assigned_at = null
  from step s where not s.is_void and c.business_id = s.business_id and c.code = s.code;
"""

# The partition of an installation that ran in the previous month.
SQL_MONTH_BEFORE = """
do $$
declare first_day timestamptz := date_trunc('month', now(), 'UTC') - interval '1 month';
begin
  execute format('create table %I partition of coupon_event for values from (%L) to (%L)',
    'coupon_event_' || to_char(first_day at time zone 'UTC', 'YYYY_MM'), first_day, first_day + interval '1 month');
end $$;
"""

SQL_AGE = """
update coupon_event e set at = e.at - interval '{age}' from coupon c
  where c.business_id = '{business}' and c.code = any ({codes}) and e.book_id = c.book_id and e.position = c.position;
update redemption set at = at - interval '{age}' where business_id = '{business}' and code = any ({codes});
update coupon set assigned_at = assigned_at - interval '{age}', redeemed_at = redeemed_at - interval '{age}',
  created_at = created_at - interval '{age}'
  where business_id = '{business}' and code = any ({codes});
"""

# An expired lock that no sweep has ended.
SQL_LAPSED_LOCK = """
with step as (
  update coupon set status = 'LOCKED', lock_id = gen_random_uuid(), locked_at = now() - interval '1 hour',
    locked_until = now() - interval '50 minutes', version = version + 1
  where business_id = '{business}' and code = '{code}' and status = 'ASSIGNED' returning *),
event as (
  insert into coupon_event (id, at, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
  select gen_random_uuid(), locked_at, business_id, book_id, position, version, 'ASSIGNED', 'LOCKED', 'LOCK', holder,
         'service:dump' from step),
agenda as (
  insert into lock_agenda (locked_until, business_id, code, lock_id)
  select locked_until, business_id, code, lock_id from step)
insert into book_delta (book_id, assigned, locked) select book_id, -1, 1 from step;
"""

# An unfinished generation: its only chunk becomes the first of three; the second was running, the third is runnable.
SQL_HALF_DONE = """
with half as (
  update job set status = 'RUNNING', finished_at = null, total = total * 3, chunks_total = 3 where id = '{job}' returning *),
space as (
  update code_space s set next_index = s.next_index + 80 from half
  where s.business_id = half.business_id and s.pattern = half.work ->> 'pattern'),
book as (
  update coupon_book b set next_position = b.next_position + 80 from half where b.id = half.book_id
  returning b.next_position - 80 as first),
done as (
  update job_chunk c set work = c.work || '{{"edge": "first"}}' from half where c.job_id = half.id returning c.work)
insert into job_chunk (job_id, number, status, epoch, worker, claimed_at, lease_until, work)
select '{job}', n, case n when 1 then 'RUNNING' else 'READY' end, 2 - n, case n when 1 then 'gone' end,
       case n when 1 then now() end, case n when 1 then now() end,
       done.work || jsonb_build_object('edge', case n when 1 then 'none' else 'last' end,
         'first_position', book.first + 40 * (n - 1),
         'indexes', jsonb_build_object('start', (done.work #>> '{{indexes,end}}')::bigint + 40 * (n - 1),
                                       'end', (done.work #>> '{{indexes,end}}')::bigint + 40 * n))
from done, book, generate_series(1, 2) n;
"""


def files_of(folder, jobs):
    """The errors files, and the uploads that are not imported yet."""
    kept = [folder / "errors", *(folder / "uploads" / job for name, job in jobs.items() if name.startswith("queued"))]
    paths = sorted(path for part in kept for path in part.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def main():
    program, commit, target = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    work = pathlib.Path(tempfile.mkdtemp(prefix="cuponera-dump-"))
    os.chmod(work, 0o755)
    server = Server(str(pathlib.Path(program).resolve()), work / "data")
    version = server.run("--version").split()[-1]
    migration = int(server.sql("select max(version) from _sqlx_migrations")[0])
    facts = {"version": version, "migration": migration, "commit": commit, "jwtSecret": JWT_SECRET, "admin": ADMIN}
    Filling(server, facts).all()
    facts["files"] = files_of(work / "data" / "files", facts["jobs"])
    facts["codes"] = int(server.sql("select count(*) from coupon")[0])
    facts["at"] = server.sql("""select to_char(now(), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')""")[0]
    target.mkdir(parents=True, exist_ok=True)
    name = f"v{version}-{migration:04}"
    (target / f"{name}.sql.gz").write_bytes(gzip.compress(server.dump().encode(), 9, mtime=0))
    (target / f"{name}.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    server.stop_postgres()
    shutil.rmtree(work)
    print(f"{target / name}.sql.gz: {facts['codes']} codes, {(target / f'{name}.sql.gz').stat().st_size} bytes")


main()
