// A drawing or photo -> its digits, as MNIST shows them.
"use strict"
