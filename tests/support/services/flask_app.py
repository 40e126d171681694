from flask import Flask
from wsgi import app as inner

app = Flask("shop")
app.wsgi_app = inner
